"""Reads, opens and hashes files that the caller names: what was not named by itself only if it is a regular file.

A FIFO in a directory from elsewhere would never end.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from mvmnix.api import held_files
from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.slsa.in_toto import ALGORITHMS, COMMIT
from mvmnix.system.store import chunks, digest_of

_DIGEST = re.compile("|".join(f"{name}:[0-9a-f]{{{size}}}" for name, size in ALGORITHMS.items()))
_COMMIT = re.compile(rf"{COMMIT}:([0-9a-f]{{40}}|[0-9a-f]{{64}})")
#: Bytes of a file that is read as a whole: an Ed25519 signature over a file itself needs that.
_WHOLE = 2**30
#: Bytes of a file that may be on no disk (lseek(2), SEEK_HOLE): as many as the largest root filesystem has.
_HOLES = 2**34


@contextmanager
def regular(path: str, hint: str) -> Iterator[int]:
    """A descriptor of a regular file, for reading. Raises UsageError."""
    try:
        fd = _opened(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, error, hint) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"{path} is not a regular file", hint=hint)
        yield fd
    finally:
        os.close(fd)


def _opened(path: str, flags: int) -> int:
    """A descriptor of a file, or of what root's command line named (held_files.py). Raises OSError."""
    held = held_files.opened(path)
    return os.open(path, flags) if held is None else held


def is_directory(path: str) -> bool:
    """Whether it is a directory, or one of which files are held."""
    return os.path.isdir(path) or held_files.is_held_directory(path)  # noqa: PTH112 - a text


def exists(path: str) -> bool:
    """Whether there is such a file, or it is held."""
    is_handed = held_files.is_handed(os.path.dirname(path))  # noqa: PTH120 - a text
    return held_files.is_held(path) or (not is_handed and os.path.exists(path))  # noqa: PTH110 - a text


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


def digest_in(text: str) -> Mapping[str, str]:
    """What `sha256:DIGEST` (or 384, 512) or `gitCommit:COMMIT` names, by algorithm; nothing for a file's path."""
    found = _DIGEST.fullmatch(text) or _COMMIT.fullmatch(text)
    name, _, digest = text.partition(":")
    return {} if found is None else {name: digest}


def blob(artifact: str) -> Blob:
    """What is to be verified: a file by its own bytes, or a digest whose file is elsewhere. Raises UsageError."""
    named = digest_in(artifact)
    if named:
        return Blob(Digest(named["sha256"])) if "sha256" in named else Blob(None, others=lambda: named)
    hint = "name a file, or sha256: with 64 lower-case hexadecimal digits, or sha384: or sha512: with all of theirs"
    with regular(artifact, hint) as fd:
        try:
            _refuse_holes(fd, artifact)
            digest, _ = digest_of(fd)
        except OSError as error:
            raise _unreadable(artifact, error, hint) from error
    return Blob(digest, lambda: _again(artifact, hint), cache(lambda: _others(artifact, digest, hint)))


def _refuse_holes(fd: int, path: str) -> None:
    """Refuse a file most of which is on no disk: it would be hashed for hours. Raises UsageError, OSError."""
    end, size, holes = 0, os.fstat(fd).st_size, 0
    while end < size and holes <= _HOLES:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            begin = size  # no more data
        holes += begin - end
        end = os.lseek(fd, begin, os.SEEK_HOLE) if begin < size else size
    os.lseek(fd, 0, os.SEEK_SET)
    if holes > _HOLES:
        hint = "hand in the file that was signed; if it has as many zeros: cp --sparse=never"
        raise UsageError(f"{path} has more than {_HOLES >> 30} GiB of holes", hint=hint)


def _others(artifact: str, digest: Digest, hint: str) -> Mapping[str, str]:
    """The file's digests by the other algorithms, of the bytes that have this SHA-256. Raises ValueError."""
    hashers = {name: hashlib.new(name) for name in ALGORITHMS}
    try:
        with regular(artifact, hint) as fd:
            for chunk in chunks(fd):
                for hasher in hashers.values():
                    hasher.update(chunk)
    except (UsageError, OSError) as error:
        raise ValueError(f"the file can't be read again: {error}") from error
    found = {name: hasher.hexdigest() for name, hasher in hashers.items()}
    if found.pop("sha256") != digest.hex:
        raise ValueError("the file changed while it was verified")
    return found


def _again(artifact: str, hint: str) -> bytes:
    """The bytes of a file, for a signature over all of them. Raises ValueError: then that signature does not count."""
    try:
        return read(artifact, _WHOLE, hint)
    except UsageError as error:
        raise ValueError(f"its signature is over the whole file, but {error.message}") from error


def file_bytes(path: str, limit: int) -> bytes:
    """A file that the user named, or stdin for `-`. Raises UsageError."""
    try:
        with open(0 if path == "-" else path, "rb", opener=_opened) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint="name a file that is there") from error
    if len(data) > limit:
        raise UsageError(f"{path} is larger than {limit} bytes", hint="name the right file")
    return data
