"""The filter of system calls for what serves a directory: files it may make, but none that is more than a file; pure.

A server of files needs calls that a hypervisor doesn't (syscalls.py has those that nobody gets). Of them it gets the
forms that can't plant anything: no set-user-ID or set-group-ID bit, no device, no FIFO, no socket.
"""

import stat
from typing import Final

from mvmnix.launch.jail import syscalls
from mvmnix.launch.jail.syscalls import one_of, without_bits

#: Denied to a hypervisor, and not to a server of files.
GRANTED: Final = frozenset(
    {
        *(
            "accept4",
            "mknodat",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "fchown",
            "fchownat",
            "linkat",
            "symlinkat",
            "mkdirat",
        ),
        *("renameat", "renameat2", "unlinkat", "truncate", "flock", "utimensat", "unshare"),
    }
)
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_KIND: Final = 0o170000  # S_IFMT, inode(7)
_WHOLE: Final = 0xFFFFFFFF
_CLONE_FS: Final = 0x200
#: By number (arch/x86/entry/syscalls/syscall_64.tbl): open, creat, openat, fchmod, fchmodat, fchmodat2, and which of
#: their arguments is a mode.
_MODES: Final = {2: 2, 85: 1, 257: 3, 91: 1, 268: 2, 452: 2}
_MKNODAT, _UNSHARE = 259, 272
#: Its mode stands in memory, where no filter can look; whoever has no openat2 takes openat.
_OPENAT2: Final = 437


#: It takes room on the disk without a byte that was written; whoever has no fallocate writes.
_FALLOCATE: Final = 285


def program_counted() -> bytes:
    """The filter for a server of whose writing the bytes are counted (launch/proc.py)."""
    return program(_FALLOCATE)


def program(*unknown: int) -> bytes:
    """The filter, without calls by their numbers; see `syscalls.program` for what is in front of these forms."""
    forms = {number: without_bits(argument, _SET_ID) for number, argument in _MODES.items()}
    forms[_MKNODAT] = (*without_bits(2, _SET_ID), *one_of(2, _KIND, (0, stat.S_IFREG)))
    forms[_UNSHARE] = one_of(0, _WHOLE, (_CLONE_FS,))
    return syscalls.program(granted=GRANTED, forms=forms, unknown=(_OPENAT2, *unknown))
