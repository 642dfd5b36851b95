"""The only judge of where temporary files go: there, only we and root can put another file under a name.

Archives, downloads and sockets lie there for a while, and are found by their paths. The owner of the directory could
exchange them, or put a link in their place; and su(1) without `-` leaves root the TMPDIR of the user before.
"""

import os
import sys
from collections.abc import Mapping
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.system import trusted_path

#: What says where, in this order (Python's tempfile.gettempdir); without them it is a directory of the system.
VARIABLES: Final = ("TMPDIR", "TEMP", "TMP")


def judged(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of VARIABLES that are set, with the paths that were judged, which hold no symbolic link.

    What isn't there passes, if no other user can make it. Raises RefusedError [state-permissions].
    """
    return {name: _judged(name, environment[name]) for name in VARIABLES if environment.get(name)}


def apply() -> None:
    """Have this process and its children use what was judged of this process's environment. Raises as `judged` does."""
    os.environ.update(judged(os.environ))
    if (used := sys.modules.get("tempfile")) is not None:
        used.__dict__["tempdir"] = None  # it may have been looked up before


def _judged(name: str, value: str) -> str:
    real = os.path.realpath(value)
    try:
        trusted_path.judge_container(real)
    except FileNotFoundError:
        pass
    except RefusedError as error:
        why = f"temporary files would lie there, and {error.reasons[0].what}: {error.reasons[0].why}"
        hint = f"unset {name}, or let it name a directory of your own"
        raise refuse(ReasonCode.STATE_PERMISSIONS, f"{name}={value}", why, hint) from error
    return real
