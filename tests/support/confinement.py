"""Ways in which a process confines itself for good, for forks of a test's."""

import ctypes
import os
import resource
import struct
from typing import Final

from mvmnix.sandbox import landlock
from mvmnix.system import prctl

#: The one instruction of a filter that lets every call be (linux/filter.h: BPF_RET, SECCOMP_RET_ALLOW).
_ALLOW_ALL: Final = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)


#: landlock_create_ruleset(2), landlock_restrict_self(2), and LANDLOCK_ACCESS_FS_MAKE_SOCK (linux/landlock.h).
_CREATE_RULESET, _RESTRICT_SELF, _MAKE_SOCKET = 444, 446, 1 << 9


def forbid_new_privileges() -> None:
    """Set no-new-privileges."""
    prctl.forbid_new_privileges()


def filter_calls() -> None:
    """Set a filter of system calls, and no-new-privileges, which that takes."""
    prctl.forbid_new_privileges()
    file = os.memfd_create("filter")
    os.write(file, _ALLOW_ALL)
    os.lseek(file, 0, os.SEEK_SET)
    prctl.filter_system_calls(file)


def enter_namespaces() -> None:
    """Enter a user and a mount namespace."""
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)


def lower_hard_limit() -> None:
    """Bound the number of descriptors for good."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def hide() -> None:
    """Not be dumpable, without the rights that would see through it."""
    prctl.drop_capabilities()
    prctl.set_dumpable(dumpable=False)


def enter_landlock() -> None:
    """Set no-new-privileges, and enter a Landlock domain in which no socket is made, where the kernel has Landlock."""
    prctl.forbid_new_privileges()
    if landlock.abi():
        libc = ctypes.CDLL(None, use_errno=True)
        handled = ctypes.c_uint64(_MAKE_SOCKET)
        ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), ctypes.c_uint32(0))
        if ruleset < 0 or libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.close(ruleset)
