"""Refuses to work where an owner can't be told from another: in a user namespace in which root has no uid.

Files whose owner has no uid in a user namespace show as owned by the overflow uid, 65534 unless it was set otherwise
(user_namespaces(7), "Unmapped user and group IDs"): root's do, and those of every other user there. So nothing shows
that a program or a directory is root's alone, and every rule of mvm's about owners would refuse, each with a reason of
its own. Nix makes such a namespace for programs in a store that isn't at /nix/store; where it calls chroot(2) besides,
no sandbox can be made either (EPERM: user_namespaces(7)).

1. The system's own directories do not belong to the overflow uid.
2. Nor does this process have it as its uid: what belongs to unknown owners would count as its own.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError, refuse

#: Root's on every system that mvm runs on.
SYSTEM: Final = ("/usr", "/etc")
#: DEFAULT_OVERFLOWUID of linux/highuid.h, and where it may be set (proc_sys_kernel(5)).
_OVERFLOW: Final = 65534
_SETTING: Final = Path("/proc/sys/kernel/overflowuid")


def refuse_unmapped(directories: Sequence[str] = SYSTEM) -> None:
    """Raises RefusedError [namespace-unusable] where root or this process has no uid of its own."""
    overflow = _overflow_uid()
    for directory in directories:  # 1
        with suppress(FileNotFoundError):
            if os.stat(directory).st_uid == overflow:  # noqa: PTH116 - a text
                raise _refusal(f"{directory} shows as owned by uid {overflow}, which stands for owners unknown here")
    if os.geteuid() == overflow:  # 2
        raise _refusal(f"this process has uid {overflow}, as which the files of all unknown owners show")


def _refusal(why: str) -> RefusedError:
    hint = (
        "start mvm outside of that user namespace, as a user of its own: not by `nix run` or `nix shell` from a store "
        "other than /nix/store (docs/reference/nix.md), not by `unshare --user`, not as nobody"
    )
    return refuse(ReasonCode.NAMESPACE_UNUSABLE, "this user namespace", why, hint)


def _overflow_uid() -> int:
    try:
        return int(_SETTING.read_text())
    except (OSError, ValueError):  # a sandbox may show no /proc
        return _OVERFLOW
