"""The only reader and writer of files that are kept by their digest; makes files in memory too, and seals them.

What a store hands out, and what a sealed copy holds, is exactly what was hashed.
"""

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import override

from mvmnix.digest import Digest, is_digest
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, refuse
from mvmnix.model import Artifact
from mvmnix.system.private_dirs import Directory

_CHUNK = 1 << 20
_TAKE_ANOTHER = "it was not taken: fetch it again (mvm pin fetch), or build it again"
_BUILD_AGAIN = "build the image again: `mvm build --again FLAKE`"
_REBUILD = f"{_BUILD_AGAIN}; or copy its directory again, if it was copied"

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
#: How often, and with how many seconds between, it's tried to seal memory.
_TRIES = 50
_BETWEEN_TRIES = 0.1


class Store:
    """Files in a directory, each under its SHA-256 digest in hexadecimal.

    A source that is hashed as a NAR is kept as that NAR, so that every file's name is the digest of its bytes.
    """

    def __init__(self, directory: Directory, *, hint: str = "mvm pin fetch") -> None:
        """The directory belongs to the caller, who closes it; `hint` says how a file that is missing is got again."""
        self._directory = directory
        self._hint = hint

    def has(self, digest: Digest) -> bool:
        """Whether there is a file under that name. Its bytes are not trusted: they are hashed when it is read."""
        return self._directory.exists(digest.hex)

    def size(self, digest: Digest) -> int:
        """The size in bytes of a kept file, hashed on the way; raises as `copy` does."""
        return self.copy(digest, lambda _: None)

    def put(self, content: bytes | Iterable[bytes], expected: Digest) -> int:
        """Keep these bytes durably; returns how many they are.

        They get their name only once they hash to `expected`; else RefusedError [source-mismatch], and nothing stays.
        """
        temporary, fd = self._directory.create_temporary(expected.hex)
        try:
            hasher, size = hashlib.sha256(), 0
            with os.fdopen(fd, "wb") as file:
                for chunk in (content,) if isinstance(content, bytes) else content:
                    hasher.update(chunk)
                    size += file.write(chunk)
                file.flush()
                os.fsync(fd)
                _must_be(expected, hasher.hexdigest(), ReasonCode.SOURCE_MISMATCH, "the bytes to be kept")
                self._directory.rename(temporary, expected.hex)  # before it is closed, or a sweep might come first
        except BaseException:
            self._directory.remove(temporary)
            raise
        return size

    def receive(self) -> "Incoming":
        """A file whose digest is known only when it is complete."""
        return Incoming(self._directory)

    def copy(self, digest: Digest, write: Callable[[bytes], object]) -> int:
        """Hand a kept file to `write`, in chunks, while hashing it; returns its size in bytes.

        Raises RefusedError [source-mismatch] at the end when the bytes are others: what was handed out is worthless
        then. The file stays as it is, for a user may want to look at it. Raises MvmnixError when it is not there.
        """
        fd = self.unhashed(digest)
        try:
            hasher, size = hashlib.sha256(), 0
            for chunk in chunks(fd):
                hasher.update(chunk)
                write(chunk)
                size += len(chunk)
        finally:
            os.close(fd)
        where = self._directory.where(digest.hex)
        try:
            _must_be(digest, hasher.hexdigest(), ReasonCode.SOURCE_MISMATCH, where, hint=self._hint)
        except RefusedError:
            self._spoiled(digest)
            raise
        return size

    def _spoiled(self, digest: Digest) -> None:
        """What is done about a file that has other bytes than its name says: nothing, it is evidence of something."""

    def read(self, digest: Digest, *, limit: int) -> bytes:
        """The bytes of a kept file; raises as `copy` does, and MvmnixError beyond `limit` bytes."""
        data = bytearray()

        def write(chunk: bytes) -> None:
            data.extend(chunk)
            if len(data) > limit:
                raise MvmnixError(f"{self._directory.where(digest.hex)} has more than {limit} bytes")

        self.copy(digest, write)
        return bytes(data)

    def stream(self, digest: Digest) -> Iterator[bytes]:
        """The bytes of a kept file, in chunks, unhashed: for receivers who hold them against its digest themselves."""
        fd = self.unhashed(digest)
        try:
            yield from chunks(fd)
        finally:
            os.close(fd)

    def digests(self) -> tuple[Digest, ...]:
        """The names of all files that are kept, in order; their bytes are not trusted."""
        return tuple(Digest(name) for name in self._directory.names() if is_digest(name))

    def where(self, digest: Digest) -> str:
        """The path of a file of that name, for messages."""
        return self._directory.where(digest.hex)

    def weight(self, digest: Digest) -> int:
        """How many bytes a kept file takes, unhashed; raises MvmnixError when it is not there."""
        fd = self.unhashed(digest)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def remove(self, digest: Digest) -> None:
        """Let go of a file, if it is there; a process that holds a descriptor of it keeps its bytes."""
        self._directory.remove(digest.hex)

    def sweep(self, *, remove: bool = True) -> dict[str, int]:
        """As `Directory.sweep`: what was left over by writers that died."""
        return self._directory.sweep(remove=remove)

    def unhashed(self, digest: Digest) -> int:
        """A descriptor of a kept file whose bytes are not hashed: for callers who verify what they read from it.

        Raises MvmnixError when it is not there.
        """
        try:
            return self._directory.open_file(digest.hex)
        except FileNotFoundError as error:
            where = self._directory.where(digest.hex)
            raise MvmnixError(f"{where} is not there", hint=self._hint) from error


class Cache(Store):
    """A store of what can be fetched again: a file that has other bytes than its name says makes room for good ones.

    So what it receives isn't made durable: what a crash leaves half written is found out when it is read.
    """

    @override
    def receive(self) -> "Incoming":
        return _Light(self._directory)

    @override
    def _spoiled(self, digest: Digest) -> None:
        self.remove(digest)


class Incoming:
    """A file on its way into a store: written, looked at, then kept under its digest, or discarded."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._temporary, self.fd = directory.create_temporary("incoming")
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return Digest(self._hasher.hexdigest())

    def write(self, data: bytes) -> None:
        """Take more bytes."""
        self._hasher.update(data)
        _write(self.fd, data)
        self.size += len(data)

    def close(self) -> None:
        """It is complete; makes it durable."""
        os.fsync(self.fd)

    def read(self) -> bytes:
        """All of its bytes."""
        return b"".join(chunks(self.fd))

    def keep(self) -> Digest:
        """Give it its name in the store, once it is durable."""
        self.close()
        self._directory.rename(self._temporary, self.digest.hex)
        self._temporary = ""
        return self.digest

    def discard(self) -> None:
        """Close the file, and remove it unless it was kept; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            if self._temporary:
                self._directory.remove(self._temporary)


class _Light(Incoming):
    """The same without waiting for the disk."""

    @override
    def close(self) -> None:
        """It is complete."""

    @override
    def keep(self) -> Digest:
        os.rename(self._temporary, self.digest.hex, src_dir_fd=self._directory.fd, dst_dir_fd=self._directory.fd)
        self._temporary = ""
        return self.digest


def sealed_memfd(fd: int, expected: Digest, *, name: str = "mvmnix", seals: int = _SEALS) -> int:
    """Copy a file into memory while hashing it, and seal the copy: against every change, if nothing else is asked for.

    `fd` is read from its first byte and stays open. Returns a new descriptor (close-on-exec) at its first byte, which
    holds the hashed bytes whatever happens to the file. `seals` are fcntl(2)'s F_SEAL_…. Raises RefusedError
    [artifact-mismatch] on another digest.
    """
    memory = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        hasher, left = hashlib.sha256(), os.fstat(fd).st_size
        for chunk in chunks(fd):
            hasher.update(chunk)
            _write(memory, chunk)
            left -= len(chunk)
            if left < 0:  # it grows, and is not the file that was looked at
                break
        _must_be(expected, hasher.hexdigest(), ReasonCode.ARTIFACT_MISMATCH, name, hint=_REBUILD)
        seal(memory, seals)
        os.lseek(memory, 0, os.SEEK_SET)
    except BaseException:
        os.close(memory)
        raise
    return memory


def seal(memory: int, seals: int = _SEALS) -> None:
    """Add seals, fcntl(2)'s F_SEAL_…, to a memfd: against every change, if no others are named.

    That waits some seconds for what uses the memfd's pages at this moment: the kernel waits 0.15 s for references to
    pages that come and go, for instance while memory is compacted, and then refuses F_SEAL_WRITE (EBUSY;
    memfd_wait_for_pins() in mm/memfd.c). Raises OSError.
    """
    for left in reversed(range(_TRIES)):
        try:
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
        except OSError as error:
            if error.errno != errno.EBUSY or not left:
                raise
            time.sleep(_BETWEEN_TRIES)
        else:
            return


def memfd(data: bytes, *, name: str) -> int:
    """A new descriptor (close-on-exec) of memory with these bytes, at the first of them; not sealed."""
    memory = os.memfd_create(name, os.MFD_CLOEXEC)
    _write(memory, data)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def sealed_memory(data: bytes, *, name: str) -> int:
    """Return a new descriptor (close-on-exec) of memory with these bytes, sealed against every change."""
    memory = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _write(memory, data)
        seal(memory)
    except BaseException:
        os.close(memory)
        raise
    return memory


def is_sealed(fd: int) -> bool:
    """Return whether a descriptor is of memory that no process can change any more (fcntl(2), F_GET_SEALS)."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        return False


def read_sealed(fd: int, limit: int) -> bytes:
    """Return the bytes of sealed memory, at most `limit`; the descriptor stays open. Raises ValueError, OSError.

    That another process wrote them changes nothing any more, and reading them never waits (fcntl(2), F_GET_SEALS).
    """
    if not is_sealed(fd):
        raise ValueError("it is not sealed memory")
    size = os.fstat(fd).st_size
    if size > limit:
        raise ValueError(f"it has {size} bytes, where {limit} are allowed")
    return os.pread(fd, size, 0)


def digest_of(fd: int, *, most: int | None = None) -> tuple[Digest, int]:
    """Digest and size in bytes of an open file, from its first byte; of one that grows beyond `most`, no more of it."""
    hasher, size = hashlib.sha256(), 0
    for chunk in chunks(fd):
        hasher.update(chunk)
        size += len(chunk)
        if most is not None and size > most:
            break
    return Digest(hasher.hexdigest()), size


def hash_file(fd: int, artifact: Artifact) -> Artifact:
    """Return what the file is by its bytes; raises RefusedError ARTIFACT_MISMATCH, unread, for one of another size."""
    check_size(fd, artifact)
    return Artifact(artifact.name, *digest_of(fd, most=artifact.size))


def check_size(fd: int, artifact: Artifact) -> None:
    """Raise RefusedError ARTIFACT_MISMATCH for the first of `size_reasons`."""
    for reason in size_reasons(fd, artifact):
        raise RefusedError(reason)


def size_reasons(fd: int, artifact: Artifact) -> Iterator[Reason]:
    """Why the file is not the one that the manifest names, as far as kind and size tell: nothing of it is read.

    A sparse file takes no room on a disk, whatever its size.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        yield Reason(ReasonCode.ARTIFACT_MISMATCH, artifact.name, "it is not a regular file", _BUILD_AGAIN)
    elif status.st_size != artifact.size:
        why = f"the file has {status.st_size} bytes, the manifest says {artifact.size}"
        yield Reason(ReasonCode.ARTIFACT_MISMATCH, artifact.name, why, _BUILD_AGAIN)


def chunks(fd: int) -> Iterator[bytes]:
    """The file from its first byte, without moving the descriptor's own position."""
    offset = 0
    while chunk := os.pread(fd, _CHUNK, offset):
        offset += len(chunk)
        yield chunk


def _must_be(expected: Digest, found: str, code: ReasonCode, what: str, *, hint: str = _TAKE_ANOTHER) -> None:
    if found != expected.hex:
        raise refuse(code, what, f"expected {expected}, found sha256:{found}", hint)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
