"""Turns the opened files of an image into what a hypervisor boots from: the hashed bytes, and a checked disk.

Kernel and initrd are copied into sealed memory while they are hashed, so that no process can change them between the
look and the use. The root filesystem stays a file: whatever its size, four cheap looks tie it to the signed verity
root (size, superblock, top hash block; dm-verity in the guest checks each block below when it is read).

The kernel's copy is given back once the guest has booted: the hypervisor has it in the guest's memory then, and would
keep it beside that for as long as the machine lives.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import verity
from mvmnix.model import Artifact, Verity
from mvmnix.system import store
from mvmnix.system.descriptors import reopen

#: No process can change or add a byte; one that may open it for writing can make it shorter.
_RELEASABLE: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_REBUILD: Final = "build the image again: `mvm build --again FLAKE`"


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """Descriptors of an image's files, opened for reading; they stay the caller's, and may be anything."""

    kernel: int
    initrd: int
    rootfs: int


class BootFiles:
    """What a machine boots from: sealed copies of kernel and initrd, the rootfs for reading. Owns its descriptors."""

    __slots__ = ("_fds", "_is_complete")

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._fds: dict[str, int] = {}
        self._is_complete = False

    def keep(self, name: str, fd: int) -> None:
        """Take over a descriptor. Raises ValueError once they were verified."""
        if self._is_complete:
            raise ValueError(f"the verified {name} can't be replaced")
        self._fds[name] = fd

    def complete(self) -> None:
        """Take no other descriptor from here on: these were verified."""
        self._is_complete = True

    def __getitem__(self, name: str) -> int:
        """The descriptor of `kernel`, `initrd` or `rootfs`. Raises KeyError when it was closed."""
        return self._fds[name]

    def give_back(self, name: str) -> None:
        """Free the memory of a `releasable_copy`, even while open: it is empty then. A second call does nothing."""
        fd = self._fds[name]
        os.fchmod(fd, 0o600)
        with os.fdopen(reopen(fd, os.O_RDWR), "wb") as memory:
            memory.truncate(0)

    def close(self) -> None:
        """Close what is open. A second call does nothing."""
        while self._fds:
            with suppress(OSError):
                os.close(self._fds.popitem()[1])


def sealed_copy(fd: int, artifact: Artifact) -> int:
    """A sealed copy in memory of exactly the bytes that the manifest names. Raises RefusedError ARTIFACT_MISMATCH."""
    store.check_size(fd, artifact)
    return store.sealed_memfd(fd, artifact.digest, name=artifact.name)


def releasable_copy(fd: int, artifact: Artifact) -> int:
    """The same, which can't be changed either, for reading alone: `BootFiles.give_back` frees its memory.

    Its owner alone can change the mode, and a hypervisor in its jail can't, not even as the owner (fchmod is
    not on its list of system calls): so no other process shortens it before it was loaded.
    """
    store.check_size(fd, artifact)
    memory = store.sealed_memfd(fd, artifact.digest, name=artifact.name, seals=_RELEASABLE)
    try:
        os.fchmod(memory, 0o444)
        return reopen(memory)
    finally:
        os.close(memory)


def read_only(fd: int, artifact: Artifact) -> int:
    """A descriptor of our own for the same file, for reading, whatever the caller's is for."""
    _check_regular(fd, artifact.name)
    return reopen(fd)


def verity_reasons(fd: int, parameters: Verity) -> Iterator[Reason]:
    """Why the root filesystem's file is not the one that the signed parameters describe, as far as its header tells."""
    for check in (verity.size_problem, verity.superblock_problem, verity.root_problem):
        why = check(fd, parameters)
        if why is not None:
            yield Reason(ReasonCode.VERITY_MISMATCH, "rootfs", why, _REBUILD)


def _check_regular(fd: int, name: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise RefusedError(Reason(ReasonCode.ARTIFACT_MISMATCH, name, "it is not a regular file", _REBUILD))
