"""The only writer of a LUKS header: a fresh random key for a disk, locked under a passphrase; bytes, no I/O.

LUKS1 On-Disk Format Specification 1.2.3 (the cryptsetup project's). The payload lies elsewhere, from its first byte on
(offset 0: a detached header), as AES-256-XTS by sectors of 512 bytes (xts-plain64).
"""

import os
import struct
from hashlib import pbkdf2_hmac, sha256
from itertools import batched
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_SECTOR: Final = 512
_KEY_BYTES: Final = 64
_STRIPES: Final = 4000
#: Rounds of PBKDF2. They make up for weak passphrases; ours has 256 random bits, and one round is enough.
_ROUNDS: Final = 1000
_SLOTS: Final = 8
_ACTIVE, _DISABLED = 0x00AC71F3, 0x0000DEAD
#: Sectors: where the first slot's material begins, and from there to the next one's, as cryptsetup aligns them.
_FIRST, _APART = 8, 504
_HEAD: Final = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT: Final = struct.Struct(">II32sII")
#: Names nothing here: the disk is not looked up by it.
_UUID: Final = b"00000000-0000-4000-8000-000000000000"


def header(passphrase: bytes) -> bytes:
    """A header whose one key, new and random, the passphrase unlocks."""
    key, digest_salt, slot_salt = os.urandom(_KEY_BYTES), os.urandom(32), os.urandom(32)
    head = _HEAD.pack(
        b"LUKS\xba\xbe",
        1,
        b"aes",
        b"xts-plain64",
        b"sha256",
        0,
        _KEY_BYTES,
        pbkdf2_hmac("sha256", key, digest_salt, _ROUNDS, 20),
        digest_salt,
        _ROUNDS,
        _UUID,
    )
    slots = [_SLOT.pack(_ACTIVE, _ROUNDS, slot_salt, _FIRST, _STRIPES)]
    slots += [_SLOT.pack(_DISABLED, 0, b"", _FIRST + _APART * number, _STRIPES) for number in range(1, _SLOTS)]
    material = _encrypted(pbkdf2_hmac("sha256", passphrase, slot_salt, _ROUNDS, _KEY_BYTES), _split(key))
    return b"".join((head, *slots)).ljust(_FIRST * _SECTOR, b"\0") + material


def _split(key: bytes) -> bytes:
    """The key in stripes, all of which it takes to get it back (the specification's AFsplit)."""
    stripes, mixed = [os.urandom(_KEY_BYTES) for _ in range(_STRIPES - 1)], bytes(_KEY_BYTES)
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
