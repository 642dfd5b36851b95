"""Makes a data disk for one start: a file without a name, which only ever holds ciphertext, and its key in memory.

When the last descriptor of the file is closed, by whatever end of the machine, the kernel gives its room back. Then
the key is gone too, unless a snapshot has it, sealed: no other file has had it. It is drawn for one start, and for
those that go on from a snapshot of that. Nothing else writes a LUKS header.
"""

import errno
import os
import secrets
import struct
from functools import partial
from hashlib import pbkdf2_hmac, sha256
from itertools import batched
from typing import Final, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mvmnix.errors import MvmnixError
from mvmnix.plan.data_disk import DataDisk
from mvmnix.system.descriptors import make_together
from mvmnix.system.prctl import disable_core_dumps_and_tracing
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import memfd
from mvmnix.vmm.port import DataAttachment, PlaceholderDisk

_MIB: Final = 1 << 20
_KEY_BYTES: Final = 32
_NO_NAME: Final = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC

_SECTOR: Final = 512
_MASTER_KEY_BYTES: Final = 64
_STRIPES: Final = 4000
#: Rounds of PBKDF2. They make up for weak passphrases; ours has 256 random bits, and one round is enough.
_ROUNDS: Final = 1000
_SLOTS: Final = 8
_ACTIVE, _DISABLED = 0x00AC71F3, 0x0000DEAD
#: Sectors: where the first slot's material begins, and from there to the next one's, as cryptsetup aligns them.
_FIRST, _APART = 8, 504
_HEAD: Final = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT: Final = struct.Struct(">II32sII")
#: Bytes of a header, and of it with its passphrase, which is text.
_HEADER_BYTES: Final = _FIRST * _SECTOR + _STRIPES * _MASTER_KEY_BYTES
UNLOCKING_BYTES: Final = _HEADER_BYTES + 2 * _KEY_BYTES
#: Names nothing here: the disk is not looked up by it.
_UUID: Final = b"00000000-0000-4000-8000-000000000000"


class PreparedDisk:
    """The descriptors of a data disk, until `release`."""

    def __init__(self, attachment: DataAttachment | PlaceholderDisk) -> None:
        """Take them over; made by `ready` or `again`, or of what stands for a data disk."""
        self.attachment: DataAttachment | PlaceholderDisk | None = attachment

    @classmethod
    def ready(cls, wanted: DataDisk, directory: Directory) -> Self:
        """The disk, with all of its room taken on the file system of the directory. Raises MvmnixError.

        From here on this process keeps its memory to itself: the key passes through it.
        """
        passphrase = secrets.token_hex(_KEY_BYTES).encode()  # QEMU takes it for text
        return cls.again(wanted.size_mib * _MIB, directory, luks_header(passphrase) + passphrase)

    @classmethod
    def again(cls, size: int, directory: Directory, unlocking: bytes) -> Self:
        """A disk of so many bytes that is unlocked as another one is (`unlocking`), for what that held.

        Raises ValueError for what unlocks none, MvmnixError as `ready` does.
        """
        disable_core_dumps_and_tracing()
        if len(unlocking) != UNLOCKING_BYTES:
            raise ValueError(f"a header and its passphrase have {UNLOCKING_BYTES} bytes")
        file, header, key = make_together(
            partial(_file, size, directory),
            partial(memfd, unlocking[:_HEADER_BYTES], name="data-header"),
            partial(memfd, unlocking[_HEADER_BYTES:], name="data-key"),
        )
        return cls(DataAttachment(file, header, key, size))

    def write(self, at: int, data: bytes) -> None:
        """Write ciphertext, as it was read from the file of a disk that is unlocked alike. Raises OSError."""
        if not isinstance(self.attachment, DataAttachment):
            raise ValueError("what stands for a disk is not written")  # noqa: TRY004 - a wrong call, not a wrong type
        if os.pwrite(self.attachment.file, data, at) != len(data):
            raise OSError(errno.EIO, "a data disk takes only a part of what is written to it")

    def release(self) -> None:
        """Close what is the hypervisor's, once it has it or will never have it. A second call does nothing."""
        if self.attachment is not None:
            for fd in self.attachment.descriptors:
                os.close(fd)
            self.attachment = None


def unlocking(data: DataAttachment) -> bytes:
    """Return what unlocks a disk: its header and its passphrase. Raises OSError, ValueError where they are no more."""
    found = os.pread(data.header, _HEADER_BYTES, 0) + os.pread(data.key, 2 * _KEY_BYTES, 0)
    if len(found) != UNLOCKING_BYTES:
        raise ValueError("the header of the data disk was cut off")
    return found


def luks_header(passphrase: bytes) -> bytes:
    """A header whose one key, new and random, the passphrase unlocks.

    It is one of the LUKS1 On-Disk Format Specification 1.2.3 (the cryptsetup project's). The payload lies elsewhere,
    from its first byte on (offset 0: a detached header), as AES-256-XTS by sectors of 512 bytes (xts-plain64).
    """
    key, digest_salt, slot_salt = os.urandom(_MASTER_KEY_BYTES), os.urandom(32), os.urandom(32)
    head = _HEAD.pack(
        b"LUKS\xba\xbe",
        1,
        b"aes",
        b"xts-plain64",
        b"sha256",
        0,
        _MASTER_KEY_BYTES,
        pbkdf2_hmac("sha256", key, digest_salt, _ROUNDS, 20),
        digest_salt,
        _ROUNDS,
        _UUID,
    )
    slots = [_SLOT.pack(_ACTIVE, _ROUNDS, slot_salt, _FIRST, _STRIPES)]
    slots += [_SLOT.pack(_DISABLED, 0, b"", _FIRST + _APART * number, _STRIPES) for number in range(1, _SLOTS)]
    material = _encrypted(pbkdf2_hmac("sha256", passphrase, slot_salt, _ROUNDS, _MASTER_KEY_BYTES), _split(key))
    return b"".join((head, *slots)).ljust(_FIRST * _SECTOR, b"\0") + material


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


def _split(key: bytes) -> bytes:
    """The key in stripes, all of which it takes to get it back (the specification's AFsplit)."""
    stripes, mixed = [os.urandom(_MASTER_KEY_BYTES) for _ in range(_STRIPES - 1)], bytes(_MASTER_KEY_BYTES)
    for stripe in stripes:
        mixed = _diffused(_xor(mixed, stripe))
    return b"".join((*stripes, _xor(mixed, key)))


def _diffused(data: bytes) -> bytes:
    size = sha256().digest_size
    return b"".join(
        sha256(number.to_bytes(4) + bytes(block)).digest()
        for number, block in enumerate(batched(data, size, strict=True))
    )


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))


def _encrypted(key: bytes, data: bytes) -> bytes:
    """By sectors; each has its number, counted from 0, as its tweak."""
    found = []
    for number, at in enumerate(range(0, len(data), _SECTOR)):
        sector = Cipher(algorithms.AES(key), modes.XTS(number.to_bytes(16, "little"))).encryptor()
        found.append(sector.update(data[at : at + _SECTOR]) + sector.finalize())
    return b"".join(found)
