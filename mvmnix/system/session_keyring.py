"""Gives the calling thread, and what it starts, a session keyring that holds nothing; reads no key."""

import ctypes
import errno
import os
import platform
import time
from typing import Final

from mvmnix.errors import MvmnixError

#: keyctl(2) by machine, which the C library has no function for (asm/unistd.h).
_KEYCTL: Final = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING: Final = 1
#: Answers of a kernel without keyrings, and of a filter around this process, which its children have too.
_ABSENT: Final = frozenset({errno.ENOSYS, errno.EPERM})
#: A plain user has 200 keys (keyrings(7), maxkeys). Keyrings of ended threads count until the kernel's next RCU grace
#: period is over, which a busy machine delays: tries, and seconds between two.
_TRIES: Final = 100
_PAUSE: Final = 0.1


def renew() -> None:
    """Join a new, anonymous session keyring (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).

    Other threads keep theirs: credentials belong to a thread (credentials(7)). Waits up to ten seconds for the user's
    quota of keys. Raises MvmnixError.
    """
    number = _KEYCTL.get(platform.machine())
    if number is None:
        raise MvmnixError(f"the sandbox isn't made for {platform.machine()}", hint="use x86_64")
    error = _join(number)
    for _ in range(_TRIES):
        if error != errno.EDQUOT:
            break
        time.sleep(_PAUSE)
        error = _join(number)
    if error and error not in _ABSENT:
        raise MvmnixError(f"no new session keyring: {os.strerror(error)}", hint="see /proc/key-users for quotas")


def _join(number: int) -> int:
    """Return 0, or the error's number."""
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.syscall(number, _JOIN_SESSION_KEYRING, None) >= 0 else ctypes.get_errno()
