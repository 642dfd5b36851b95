"""A stream of bytes sealed in chunks: the STREAM construction over AES-256-GCM; files are the caller's.

Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (2015):
each chunk's nonce is its number and whether it is the last one, so chunks that are left out, added, swapped or cut off
don't open. The key of a stream is derived from the host's, a salt of its own and what it is about (HKDF, RFC 5869), so
no stream opens as another one.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import IO, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Bytes of the key that streams' keys are derived from.
KEY_BYTES: Final = 32
#: Plain bytes of each chunk but the last one, which may have fewer, or none.
CHUNK: Final = 1 << 20
_MAGIC: Final = b"mvmnix sealed stream 1\n"
_SALT: Final = 32
_TAG: Final = 16
#: Chunks of one stream, so that it holds at most 1 TiB.
_MOST: Final = 1 << 20


class Readable(Protocol):
    """What a sealed stream is read from."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, or all that is left."""


class PlainStream:
    """Reads exact numbers of bytes of a stream that comes in chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._waiting = bytearray()

    def exactly(self, size: int) -> bytes:
        """Return so many bytes. Raises ValueError at the end of the stream."""
        found = self.most(size)
        if len(found) != size:
            raise ValueError("it ends too early")
        return found

    def most(self, size: int) -> bytes:
        """Return so many bytes, or all that is left. Raises ValueError as `open_stream` does."""
        while len(self._waiting) < size and (chunk := next(self._chunks, None)) is not None:
            self._waiting += chunk
        found = bytes(self._waiting[:size])
        del self._waiting[:size]
        return found


def sealed_chunks(key: bytes, about: bytes, data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file that holds `data`, sealed under a key of KEY_BYTES and bound to `about`.

    A chunk is taken from `data` when it is asked for, so the caller may do other things in between. Raises ValueError.
    """
    salt = os.urandom(_SALT)
    cipher = _cipher(key, salt, about)
    yield _MAGIC + salt
    for number, (chunk, is_last) in enumerate(_marked(_chunks(data))):
        yield cipher.encrypt(_nonce(number, is_last=is_last), chunk, None)


def open_stream(key: bytes, about: bytes, file: Readable) -> Iterator[bytes]:
    """Yield the chunks of a file of `sealed_chunks`, each once it is known to be what was sealed there.

    Raises ValueError for any other file, also one that was cut off behind a chunk; then it has yielded what precedes
    that, so nothing is to be used before the end.
    """
    cipher, number = _cipher(key, _read_head(file), about), -1
    for number, (sealed, is_last) in enumerate(_marked(iter(lambda: file.read(CHUNK + _TAG), b""))):
        try:
            yield cipher.decrypt(_nonce(number, is_last=is_last), sealed, None)
        except InvalidTag:
            raise ValueError(f"its chunk {number} is not what was sealed") from None
    # a file without a chunk has no last one
    if number < 0:
        raise ValueError("it has no chunk")


def read_salt(file: IO[bytes]) -> bytes:
    """Return the salt of a file of `sealed_chunks`, which no other one has, and go back to its beginning.

    Raises ValueError for any other file.
    """
    salt = _read_head(file)
    file.seek(0)
    return salt


def _read_head(file: Readable) -> bytes:
    """Return the salt, and leave the file where its first chunk begins. Raises ValueError."""
    head = file.read(len(_MAGIC) + _SALT)
    if len(head) != len(_MAGIC) + _SALT or not head.startswith(_MAGIC):
        raise ValueError("it is not a sealed stream")
    return head[len(_MAGIC) :]


def _chunks(data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in portions of CHUNK; at least one, which may be empty."""
    waiting = bytearray()
    for portion in data:
        waiting += portion
        while len(waiting) > CHUNK:
            yield bytes(waiting[:CHUNK])
            del waiting[:CHUNK]
    yield bytes(waiting)


def _marked(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each chunk, and whether it is the last one."""
    for chunk, after in pairwise(chain(chunks, (None,))):
        if chunk is not None:
            yield chunk, after is None


def _nonce(number: int, *, is_last: bool) -> bytes:
    if number >= _MOST:
        raise ValueError(f"a sealed stream has at most {_MOST} chunks")
    return number.to_bytes(11, "big") + bytes([is_last])


def _cipher(key: bytes, salt: bytes, about: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a sealing key has {KEY_BYTES} bytes, not {len(key)}")
    derived = HKDF(hashes.SHA256(), KEY_BYTES, salt, b"mvmnix sealed stream\0" + about).derive(key)
    return AESGCM(derived)
