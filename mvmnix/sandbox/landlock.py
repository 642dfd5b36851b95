"""Landlock: whether the kernel has it, and setpriv's options for it (setpriv(1), util-linux 2.41).

A process under Landlock can't mount, so it is the last to come: bubblewrap makes the root, setpriv closes it. What is
not named by a rule can't be opened, even by a descriptor's name under /proc/self/fd.
"""

import ctypes
import platform
from collections.abc import Mapping
from typing import Final

from mvmnix.sandbox.trusted_executables import Candidates

SETPRIV: Final = Candidates(
    what="setpriv", paths=("/usr/bin/setpriv",), hint="apt-get install util-linux (2.41 or newer)"
)
#: What may be done with a file: execute it, read it, write it too.
EXECUTE: Final = "execute,read-file"
READ: Final = "read-file"
WRITE: Final = "read-file,write-file"
#: What may be done with a directory of programs, and with one that is looked into.
SHOWN: Final = "execute,read-file,read-dir"
LIST: Final = "read-file,read-dir"
LIST_ONLY: Final = "read-dir"
#: What may be done beneath a directory of a program's own, and what later versions of Landlock brought of that.
_MADE: Final = ("make-dir", "make-reg", "make-sym", "make-sock", "make-fifo")
_OWN: Final = (SHOWN, "write-file", "remove-dir", "remove-file", *_MADE)
_LATER: Final = {"refer": 2, "truncate": 3}
_CREATE_RULESET: Final = 444
_VERSION: Final = 1


def abi() -> int:
    """The version of the kernel's Landlock (kernel: Documentation/userspace-api/landlock.rst), 0 where it has none."""
    if platform.machine() != "x86_64":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def command(setpriv: str, rules: Mapping[str, str]) -> tuple[str, ...]:
    """What stands before a command so that it can do with these paths, and what is beneath them, what their words say.

    Words as setpriv(1) has them, `read-file` for instance, with commas in between; nothing else can be opened.
    """
    words = [word for path, may in rules.items() for word in ("--landlock-rule", f"path-beneath:{may}:{path}")]
    return (setpriv, "--no-new-privs", "--landlock-access", "fs", *words, "--")


def own() -> str:
    """The words for a directory of a program's own, in which it may do anything but make devices."""
    return ",".join((*_OWN, *later()))


def later() -> tuple[str, ...]:
    """The words for changing files that later versions of Landlock brought, as far as this kernel has them."""
    return tuple(word for word, since in _LATER.items() if since <= abi())
