"""Reads, opens and hashes files that the caller names: what was not named by itself only if it is a regular file.

A FIFO in a directory from elsewhere would never end.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from mvmnix.errors import UsageError
from mvmnix.model import Digest
from mvmnix.provenance.authenticate import Blob
from mvmnix.store import chunks, digest_of

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
#: Bytes of a file that is read as a whole: an Ed25519 signature over a file itself needs that.
_WHOLE = 2**30


@contextmanager
def regular(path: str, hint: str) -> Iterator[int]:
    """A descriptor of a regular file, for reading. Raises UsageError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, error, hint) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"{path} is no regular file", hint=hint)
        yield fd
    finally:
        os.close(fd)


def _unreadable(path: str, error: OSError, hint: str) -> UsageError:
    return UsageError(f"{path} can't be read: {error.strerror}", hint=hint)


def read(path: str, limit: int, hint: str) -> bytes:
    """The bytes of a regular file. Raises UsageError."""
    with regular(path, hint) as fd:
        found, size = list[bytes](), os.fstat(fd).st_size
        try:
            for chunk in chunks(fd) if size <= limit else ():
                found.append(chunk)
                size = max(size, sum(map(len, found)))  # it may grow, or tell no size at all
                if size > limit:
                    break
        except OSError as error:
            raise _unreadable(path, error, hint) from error
    if size > limit:
        raise UsageError(f"{path} is larger than {limit} bytes", hint=hint)
    return b"".join(found)


def digest_in(text: str) -> Digest | None:
    """The digest that `sha256:DIGEST` names; None for anything else, which is a file's path."""
    found = _DIGEST.fullmatch(text)
    return None if found is None else Digest(found[1])


def blob(artifact: str) -> Blob:
    """What is to be verified: a file by its own bytes, or a digest whose file is elsewhere. Raises UsageError."""
    named = digest_in(artifact)
    if named is not None:
        return Blob(named)
    hint = "name a file, or sha256: with 64 lower-case hexadecimal digits"
    with regular(artifact, hint) as fd:
        try:
            digest, _ = digest_of(fd)
        except OSError as error:
            raise _unreadable(artifact, error, hint) from error
    return Blob(digest, lambda: _again(artifact, hint))


def _again(artifact: str, hint: str) -> bytes:
    """The bytes of a file, for a signature over all of them. Raises ValueError: then that signature does not count."""
    try:
        return read(artifact, _WHOLE, hint)
    except UsageError as error:
        raise ValueError(f"its signature is over the whole file, but {error.message}") from error


def file_bytes(path: str, limit: int) -> bytes:
    """A file that the user named, or stdin for `-`. Raises UsageError."""
    try:
        with open(path if path != "-" else 0, "rb") as file:  # noqa: PTH123 - a descriptor for stdin
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint="name a file that is there") from error
    if len(data) > limit:
        raise UsageError(f"{path} is larger than {limit} bytes", hint="name the right file")
    return data
