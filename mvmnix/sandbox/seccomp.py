"""The only writer of a system call filter: a profile as the seccomp program that `bwrap --seccomp` installs.

libseccomp writes it (seccomp_init(3), seccomp_rule_add(3), seccomp_export_bpf(3)). The library is loaded from a fixed
path, never looked up: ctypes.util.find_library would run ldconfig and gcc by PATH. Root alone can change that path; or
it is beside our own Python, as in the hermetic package: who could change it there could change the interpreter.

1. A call by another architecture's numbers ends the process, one by those of x32 too: they are second names.
2. What the profile lets through passes, by a condition on its arguments where the profile has one.
3. What it refuses fails with EPERM.
4. Everything else, also what a later kernel brings, fails with ENOSYS.
"""

import ctypes
import errno
import functools
import os
import sys
from pathlib import Path
from typing import Final

from mvmnix.errors import MvmnixError
from mvmnix.sandbox.profiles.profile import Condition, Profile
from mvmnix.sandbox.trusted_executables import Candidates, locate

_NAME: Final = "libseccomp.so.2"
LIBRARY: Final = Candidates(
    what="libseccomp",
    paths=(f"/usr/lib/x86_64-linux-gnu/{_NAME}", f"/usr/lib64/{_NAME}"),
    hint="apt-get install libseccomp2",
)
#: seccomp.h of libseccomp: actions, attributes, comparisons, and what a name is that it doesn't know.
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000
_BAD_ARCHITECTURE, _OPTIMIZE = 2, 8
_MASKED_EQUAL: Final = 7
_UNKNOWN: Final = -1
_REFUSED, _MISSING = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
#: As a binary tree of numbers, not as a list of them: the kernel asks it at most calls.
_TREE: Final = 2


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


@functools.cache
def program(profile: Profile) -> bytes:
    """An array of `struct sock_filter` (linux/filter.h), as seccomp(2) takes it; made once for each profile.

    A name that the installed libseccomp doesn't know yet is left out, and so fails with ENOSYS. Raises MvmnixError
    where the library is missing or answers with an error, RefusedError [state-permissions] when others could change it.
    """
    library = _library()
    context = library.seccomp_init(_MISSING)
    if not context:
        raise MvmnixError("libseccomp makes no filter", hint=LIBRARY.hint)
    try:
        _checked(library.seccomp_attr_set(context, _BAD_ARCHITECTURE, _KILL))
        _checked(library.seccomp_attr_set(context, _OPTIMIZE, _TREE))
        for name in sorted(profile.conditions):
            _add_by_condition(library, context, name, profile.conditions[name])
        for action, names in ((_ALLOW, profile.allowed), (_REFUSED, profile.denied)):
            for name in sorted(names):
                number = library.seccomp_syscall_resolve_name(name.encode())
                if number != _UNKNOWN:
                    _checked(library.seccomp_rule_add_array(context, action, number, 0, None))
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _add_by_condition(library: ctypes.CDLL, context: int, name: str, condition: Condition) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == _UNKNOWN:
        return
    for passes, comparisons in condition.rules():
        array = (_Comparison * len(comparisons))(
            *(_Comparison(index, _MASKED_EQUAL, mask, value) for index, mask, value in comparisons)
        )
        action = _ALLOW if passes else _REFUSED
        _checked(library.seccomp_rule_add_array(context, action, number, len(comparisons), array))


def _exported(library: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("filter", os.MFD_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        _checked(library.seccomp_export_bpf(context, fd))
        file.seek(0)
        return file.read()


def _checked(result: int) -> None:
    """Libseccomp answers with a negative errno."""
    if result < 0:
        raise MvmnixError(f"libseccomp: {os.strerror(-result)}", hint=LIBRARY.hint)


@functools.cache
def _library() -> ctypes.CDLL:
    beside = f"{sys.base_prefix}/lib/{_NAME}"
    path = beside if Path(beside).exists() else locate(LIBRARY)
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise MvmnixError(f"{path} can't be loaded: {error}", hint=LIBRARY.hint) from error
    context, action = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.restype, library.seccomp_init.argtypes = context, (action,)
    library.seccomp_release.restype, library.seccomp_release.argtypes = None, (context,)
    library.seccomp_attr_set.argtypes = (context, ctypes.c_int, action)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (context, action, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    library.seccomp_export_bpf.argtypes = (context, ctypes.c_int)
    return library
