"""Makes a data disk for one start: a file without a name, which only ever holds ciphertext, and its key in memory.

When the last descriptor of the file is closed, by whatever end of the machine, the kernel gives its room back. Then
the key is gone too: it was drawn for this start, and no file has had it.
"""

import os
import secrets
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.launch.data import luks
from mvmnix.launch.plan.data_disk import DataDisk
from mvmnix.launch.vmm.port import DataAttachment
from mvmnix.prctl import disable_core_dumps_and_tracing
from mvmnix.private_dirs import Directory
from mvmnix.store import memfd

_MIB: Final = 1 << 20
_KEY_BYTES: Final = 32
_NO_NAME: Final = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC


class PreparedDisk:
    """The descriptors of a data disk, until `release`."""

    def __init__(self, attachment: DataAttachment) -> None:
        """Take them over; made by `ready`."""
        self.attachment: DataAttachment | None = attachment

    @classmethod
    def ready(cls, wanted: DataDisk, directory: Directory) -> Self:
        """The disk, with all of its room taken on the file system of the directory. Raises MvmnixError.

        From here on this process keeps its memory to itself: the key passes through it.
        """
        disable_core_dumps_and_tracing()
        size = wanted.size_mib * _MIB
        file = _file(size, directory)
        try:
            passphrase = secrets.token_hex(_KEY_BYTES).encode()  # QEMU takes it for text
            header = memfd(luks.header(passphrase), name="data-header")
            return cls(DataAttachment(file, header, memfd(passphrase, name="data-key"), size))
        except BaseException:
            os.close(file)
            raise

    def release(self) -> None:
        """Close what is the hypervisor's, once it has it or will never have it. A second call does nothing."""
        if self.attachment is not None:
            for fd in self.attachment.descriptors:
                os.close(fd)
            self.attachment = None


def _file(size: int, directory: Directory) -> int:
    """A new file of this size that no path leads to and that can't be given one (open(2), O_TMPFILE and O_EXCL)."""
    try:
        file = os.open(".", _NO_NAME, 0o600, dir_fd=directory.fd)
    except OSError as error:
        hint = "keep mvm's state on a file system that has files without a name: ext4, xfs, btrfs, tmpfs"
        raise MvmnixError(f"no data disk can be made in {directory.path}: {error.strerror}", hint=hint) from error
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        os.close(file)
        what = f"a data disk of {size // _MIB} MiB finds no room in {directory.path}"
        hint = "make room there, or make a plan with a smaller one: --data"
        raise MvmnixError(f"{what}: {error.strerror}", hint=hint) from error
    return file
