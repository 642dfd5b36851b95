"""Knows who called mvm: the uid that this process had before it gave root up (privileges/give_up.py).

What depends on the caller asks here: whose home directory counts, whether mvm was started by root. What depends on what
this process may do asks the kernel (os.geteuid, access(2)).
"""

import os
import pwd
from typing import Final

#: The uid and gid of mvm itself where root started it; it owns nothing on disk. The number is one of privileges/ids.py.
MVM: Final = 1_900_543_999
_before: list[int] = []


def uid() -> int:
    """The uid of the caller (getuid(2)), also once this process has another one."""
    return _before[0] if _before else os.getuid()


def user_name(uid: int) -> str:
    """The user's name in the password file; without one the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ours() -> frozenset[int]:
    """The uids that this caller's processes of mvm have: for root's there are two."""
    return frozenset({0, MVM} if uid() == 0 else {os.geteuid()})


def remember(uid: int) -> None:
    """Called by `give_up` alone, before this process changes its uid."""
    _before[:] = [uid]
