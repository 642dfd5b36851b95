"""Makes an image (erofs) of a directory for a guest that only reads it: what changes on the host later shows nowhere.

mkfs.erofs reads what strangers may have written, so it works in a sandbox, with nothing but the directory, and writes
into memory that is sealed afterwards. A user without rights on a file there can't put it into an image.
"""

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.launch.shares.opening import is_directory, walk
from mvmnix.sandbox import trusted_executables
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system.child_causes import Cause
from mvmnix.system.descriptors import reopen
from mvmnix.system.store import seal
from mvmnix.vmm.confinement import SHARE_PLACE, Jail, Service
from mvmnix.vmm.port import Invocation
from mvmnix.vmm.process import JailedProcess

MKFS: Final = Candidates(
    what="mkfs.erofs",
    paths=("/usr/bin/mkfs.erofs", "/usr/sbin/mkfs.erofs"),
    hint="apt-get install --no-install-recommends erofs-utils",
)
#: What mkfs.erofs loads only when one of its threads ends (pthread_exit(3)), by the names that it may have.
_LOADED_LATE: Final = ("/lib/x86_64-linux-gnu/libgcc_s.so.1", "/usr/lib64/libgcc_s.so.1")
#: Bytes, entries and levels up to which a directory becomes an image, which lies in memory; a larger one is served.
LARGEST: Final = 16 << 20
MOST_ENTRIES: Final = 2_000
DEEPEST: Final = 64
#: Bytes that a maker of images may write: those of the files, and as many for the rest.
WRITTEN: Final = 4 * LARGEST
_LEAVE: Final = "leave the share out of the plan, or share it for writing, which makes no image"
_READABLE: Final = "let its owner read all of it, or everybody where that is root; or leave the share out of the plan"


@dataclass(slots=True)
class ShareImage:
    """An image in memory: a descriptor, which `release` closes, the digest of its bytes, and what made it."""

    fd: int
    program: str
    digest: Digest

    def program_digest(self) -> Digest:
        """Of the program's file."""
        return trusted_executables.digest(self.program)

    def release(self) -> None:
        """Close it. A second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def is_small(directory: int) -> bool:
    """Whether a directory has few enough files, bytes and levels for an image. No link is followed, no file opened."""
    size = 0
    for number, (above, entry) in enumerate(walk(directory, DEEPEST), 1):
        if is_directory(entry):
            if len(above) + 1 == DEEPEST:
                return False
        else:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if number > MOST_ENTRIES or size > LARGEST:
            return False
    return True


def mkfs_command(program: str, output: int) -> tuple[str, ...]:
    """mkfs.erofs's arguments: no extended attributes, no compression; owners as they look in the sandbox."""
    return (
        program,
        "--quiet",
        "-d1",
        "-x-1",
        "--preserve-mtime",
        "--workers=0",
        f"/proc/self/fd/{output}",
        SHARE_PLACE,
    )


def make_share_image(jail: Jail, service: Service) -> ShareImage:
    """The image of the service's directory, which stays the caller's. Raises MvmnixError, what `jail` raises."""
    files = tuple(path for path in _LOADED_LATE if Path(path).exists())
    sandbox = jail.service(replace(service, files=files, written=WRITTEN))
    memory = os.memfd_create("share", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _run(JailedProcess.spawn(Invocation(mkfs_command(service.program, memory), ()), (memory,), sandbox))
        seal(memory)
        readable = reopen(memory)
    finally:
        os.close(memory)
    with os.fdopen(os.dup(readable), "rb") as file:
        return ShareImage(readable, service.program, Digest(hashlib.file_digest(file, "sha256").hexdigest()))


def _run(process: JailedProcess) -> None:
    try:
        process.wait()
    finally:
        process.close()
    if process.status != 0:
        failure = process.failure(hint=_LEAVE, hints={Cause.DENIED: _READABLE, Cause.FLOODED: _LEAVE})
        why = failure.cause.strip() or f"status {process.status}"
        raise MvmnixError(f"no image can be made of the directory: {why}", hint=failure.hint) from failure
