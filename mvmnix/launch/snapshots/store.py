"""Keeps snapshots, each in a directory of its own, sealed; opens them for machines that go on from them.

`memory.sealed` has the state of the devices, the guest's memory and its data disk, sealed under a key of its own;
`key.wrapped` is this key, sealed under the host's; both are bound to the snapshot's id. `snapshot.json` is the signed
statement, `plan.json` the plan's bundle, `imported.json` that under which another host exported it, where one did. A
directory gets its name when all are on the disk; until then it has another one, is held by its writer, and is removed
by a sweep once it isn't. Without its key a snapshot is of no use: so that is what a removal takes first.
"""

import errno
import fcntl
import hashlib
import hmac
import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UnreadableError, UsageError, refuse
from mvmnix.launch.data.setup import UNLOCKING_BYTES, PreparedDisk, unlocking
from mvmnix.launch.snapshots.statement import ID, SEALED_FILE, SnapshotClaim
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.sealed_stream import KEY_BYTES, PlainStream, open_stream, sealed_chunks
from mvmnix.plan.secret_reference import Secret
from mvmnix.provenance.bundle.statement import STATEMENT_LIMIT
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.port import LARGEST_STATE, DataAttachment

KEY_FILE: Final = "key.wrapped"
BUNDLE_FILE: Final = "snapshot.json"
PLAN_FILE: Final = "plan.json"
IMPORTED_FILE: Final = "imported.json"
#: Held while a directory takes a name or loses it, and while one is opened.
_LOCK: Final = "lock"
_PARTIAL: Final = r"\.[0-9a-f]{12}\.[0-9a-f]{16}\.partial"
#: Bytes of a wrapped key's file, at most: 32 of the key, and what a sealed stream adds.
_KEY_LIMIT: Final = 1024
#: Bytes of a bundle: a statement in base64, which is a third longer, and what is around it; of several of a plan.
BUNDLE_LIMIT: Final = 2 * STATEMENT_LIMIT
#: Bytes that a snapshot leaves free on the disk that it is kept on: the audit log is there, too.
_SPARE: Final = 32 << 20
_MEMORY_NAME: Final = "mvmnix-snapshot"
_ANOTHER_SIZE: Final = "its sealed file has not the size that its statement names"


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A snapshot as it lies there, none of it trusted: the statement's bundle, the plan's, the wrapped key.

    `sealed` is a descriptor of the sealed file, for reading; `imported` the exporter's bundle, b"" where there is none.
    A context manager that owns the descriptor.
    """

    id: str
    bundle: bytes
    plan: bytes
    key: bytes
    sealed: int
    imported: bytes = b""

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.sealed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class UnsealedGuest:
    """What a guest goes on with: the state of its devices, its memory, its data disk, where it has one.

    `memory` is a memfd that any uid may write to. The descriptors are the caller's to close.
    """

    state: bytes
    memory: int
    disk: PreparedDisk | None = None


@dataclass(frozen=True, slots=True)
class ListedSnapshot:
    """A snapshot in a listing: the statement's bundle, and the plan's, b"" where one can't be read.

    `size` is the sealed file's, in bytes.
    """

    id: str
    bundle: bytes
    plan: bytes
    size: int


@dataclass(frozen=True, slots=True)
class _Seals:
    """What was sealed: digest and bytes of the sealed file, and the digest of the wrapped key's."""

    sealed: Digest
    size: int
    key: Digest


class Writer:
    """Writes one snapshot; a context manager. What wasn't kept when it ends is removed.

    The digests are there once `seal` or `adopt` is through. Raises ValueError before.
    """

    def __init__(self, directory: Directory, snapshot: str, host_key: bytes) -> None:
        """Made by `Snapshots.begin` only."""
        self._directory = directory
        self._id = snapshot
        self._host_key = host_key
        self._found: _Seals | None = None
        self._name = f".{snapshot}.{os.urandom(8).hex()}.partial"
        with directory.lock(_LOCK):  # so that no sweep sees it before it is held
            self._home = directory.child(self._name)
            _hold(self._home)

    def seal(self, state: bytes, memory: int, size: int, disk: DataAttachment | None) -> Iterator[int]:
        """Seal the state of the devices, the guest's memory and its disk; yield the bytes of the sealed file so far.

        `memory` is a descriptor of so many bytes. Each step seals 1 MiB; it reads each byte once, and skips zeros.
        Raises OSError, also where the host's disk has no room for it; ValueError for a state of no or too many bytes,
        what was cut off, or a second call.
        """
        if self._found is not None or not 0 < len(state) <= LARGEST_STATE:
            raise ValueError("a snapshot is sealed once, and has the state of some devices")
        _require_room(self._home, memory, *(() if disk is None else (disk.file,)))
        key, sealed, written = os.urandom(KEY_BYTES), hashlib.sha256(), 0
        plain = chain((state, b"" if disk is None else unlocking(disk)), guest_memory.pack(_blocks(memory, size, disk)))
        with os.fdopen(self._home.create_file(SEALED_FILE), "wb") as file:
            for chunk in sealed_chunks(key, _about(self._id), plain):
                written += file.write(chunk)
                sealed.update(chunk)
                yield written
            file.flush()
            os.fsync(file.fileno())
        self._found = _Seals(Digest(sealed.hexdigest()), written, self._wrap(key))

    def adopt(self, key: bytes, pieces: Iterable[bytes], claim: SnapshotClaim) -> None:
        """Take over the sealed file of a snapshot that another host made, and its key.

        Raises ValueError for bytes that aren't those of its claim, or don't open under this key; OSError.
        """
        if self._found is not None or claim.id != self._id:
            raise ValueError("a snapshot is taken over once, under its own id")
        size = 0
        with os.fdopen(self._home.create_file(SEALED_FILE), "w+b") as file:
            for piece in pieces:
                size += file.write(piece)
                if size > claim.sealed_bytes:
                    raise ValueError(_ANOTHER_SIZE)
            file.flush()
            os.fsync(file.fileno())
            _check(file.fileno(), claim, key)
        self._found = _Seals(claim.sealed, claim.sealed_bytes, self._wrap(key))

    def _wrap(self, key: bytes) -> Digest:
        wrapped = b"".join(sealed_chunks(self._host_key, _about_key(self._id), [key]))
        self._write(KEY_FILE, wrapped)
        return Digest.of(wrapped)

    @property
    def sealed(self) -> tuple[Digest, int]:
        """The digest of the sealed file, and its size in bytes."""
        found = self._digests()
        return found.sealed, found.size

    @property
    def key(self) -> Digest:
        """The digest of the wrapped key's file."""
        return self._digests().key

    def keep(self, bundle: bytes, plan: bytes, imported: bytes = b"") -> None:
        """Keep the snapshot with the statement's bundle and the plan's: once this has returned it is there, whole.

        With `imported`, the exporter's bundle, it is one of another host's.

        Raises OSError, FileExistsError where there is a snapshot of this id; ValueError before it is sealed, or for
        bundles that are too large.
        """
        self._digests()
        if max(map(len, (bundle, plan, imported))) > BUNDLE_LIMIT:
            raise ValueError(f"a bundle has at most {BUNDLE_LIMIT} bytes")
        self._write(BUNDLE_FILE, bundle)
        self._write(PLAN_FILE, plan)
        if imported:
            self._write(IMPORTED_FILE, imported)
        self._home.sync()
        with self._directory.lock(_LOCK):
            if self._directory.exists(self._id):
                raise FileExistsError(f"there is a snapshot {self._id}")
            try:
                self._directory.rename(self._name, self._id)
            except BaseException:
                if not self._directory.exists(self._name):  # whether it would last isn't known: it is removed
                    self._name = self._id
                raise
            self._name = ""
            self._home.close()  # a removal may hold it from now on

    def close(self) -> None:
        """Let go of the directory; remove it, unless it was kept. A second call does nothing."""
        try:
            if self._name:
                name, self._name = self._name, ""
                self._directory.remove_tree(name)
        finally:
            self._home.close()

    def _digests(self) -> _Seals:
        if self._found is None:
            raise ValueError("the snapshot is not sealed yet")
        return self._found

    def _write(self, name: str, data: bytes) -> None:
        with os.fdopen(self._home.create_file(name), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Snapshots:
    """The snapshots of a user. `key` reads the host's sealing key (templates/sealing_key.py)."""

    def __init__(self, directory: Directory, key: Callable[[], bytes]) -> None:
        """The directory stays the caller's to close."""
        self._directory = directory
        self._key = key

    def begin(self, snapshot: str) -> Writer:
        """Begin to write the snapshot of this id, 12 hexadecimal digits. Raises OSError, RefusedError for the key."""
        return Writer(self._directory, _checked(snapshot), self._key())

    def open(self, snapshot: str) -> KeptSnapshot:
        """Open a snapshot; it is the caller's to close.

        Raises UsageError where there is none of this id, RefusedError [snapshot-damaged] for one that lacks something.
        """
        with self._directory.share(_LOCK), ExitStack() as stack:
            try:
                home = stack.enter_context(self._directory.existing(_checked(snapshot)))
            except (FileNotFoundError, ValueError):
                raise _missing(snapshot) from None
            try:
                bundle, plan = (home.read(name, BUNDLE_LIMIT) for name in (BUNDLE_FILE, PLAN_FILE))
                imported = home.read(IMPORTED_FILE, BUNDLE_LIMIT) if home.exists(IMPORTED_FILE) else b""
                key = home.read(KEY_FILE, _KEY_LIMIT)
                return KeptSnapshot(snapshot, bundle, plan, key, home.open_file(SEALED_FILE), imported)
            except FileNotFoundError as error:
                raise _damaged(snapshot, f"it lacks its {error.filename}") from error
            except UnreadableError as error:
                raise _damaged(snapshot, str(error)) from error

    def has(self, snapshot: str) -> bool:
        """Whether there is a snapshot of this id."""
        return self._directory.exists(_checked(snapshot))

    def list(self) -> tuple[ListedSnapshot, ...]:
        """Return what is kept, by id; what a removal left half done, and what is no snapshot's, is left out."""
        found = list[ListedSnapshot]()
        if not self._directory.exists(_LOCK):  # none was ever kept, and to look changes nothing
            return ()
        with self._directory.share(_LOCK):
            for snapshot in self._ids():
                with suppress(OSError, MvmnixError), self._directory.existing(snapshot) as home:
                    if home.exists(KEY_FILE):
                        found.append(_listed(snapshot, home))
        return tuple(found)

    def remove(self, snapshot: str) -> None:
        """Remove a snapshot, its key first, whatever it lacks. Raises UsageError where there is none, OSError."""
        with ExitStack() as stack:
            with self._directory.lock(_LOCK):
                try:
                    home = stack.enter_context(self._directory.existing(_checked(snapshot)))
                except (FileNotFoundError, ValueError):
                    raise _missing(snapshot) from None
                _hold(home)
                home.remove(KEY_FILE)
                name = f".{snapshot}.{os.urandom(8).hex()}.partial"
                self._directory.rename(snapshot, name)
            self._directory.remove_tree(name)

    def sweep(self) -> tuple[str, ...]:
        """Remove what killed writers and removals left; return the ids of these snapshots. Raises OSError."""
        removed = list[str]()
        with self._directory.lock(_LOCK):
            for name in self._directory.names():
                if re.fullmatch(_PARTIAL, name) or (re.fullmatch(ID, name) and not self._has_key(name)):
                    removed.extend(self._remove_unheld(name))
        return tuple(removed)

    def unseal(self, kept: KeptSnapshot, claim: SnapshotClaim, disks: Directory) -> UnsealedGuest:
        """Return the guest, for one machine; its disk lies on the file system of the directory.

        The sealed file is read once; `claim` is what the verified statement says. Raises RefusedError
        [snapshot-damaged] for bytes that aren't those of the claim: nothing of them is returned. MvmnixError where the
        disk finds no room, OSError.
        """
        size = claim.memory_mib << 20
        with _refused(kept):
            state, unlocks, pieces = _read(kept.sealed, claim, self._unwrap(kept, claim))
            if not claim.data_mib:
                return UnsealedGuest(state, guest_memory.shared_copy(pieces, size, _MEMORY_NAME))
            disk = PreparedDisk.again(claim.data_mib << 20, disks, unlocks)
            try:
                memory = guest_memory.shared_copy(_filling(disk, pieces, size), size, _MEMORY_NAME)
            except BaseException:
                disk.release()
                raise
            return UnsealedGuest(state, memory, disk)

    def checked_key(self, kept: KeptSnapshot, claim: SnapshotClaim) -> bytes:
        """Return the snapshot's own key, once all that `unseal` reads was read. Raises RefusedError, OSError."""
        with _refused(kept):
            key = self._unwrap(kept, claim)
            _check(kept.sealed, claim, key)
            return key

    def secret_versions(self, plan: Digest, secrets: Iterable[Secret]) -> tuple[str, ...]:
        """Return a word for the value of each secret of a plan, which tells nothing of it without this host's key.

        HMAC-SHA256 (RFC 2104) under a key for this plan's versions alone (HKDF, RFC 5869). Raises RefusedError for the
        host's key, OSError.
        """
        about = b"the versions of the secrets of the plan " + plan.hex.encode()
        key = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=about).derive(self._key())
        return tuple(
            hmac.digest(key, secret.name.encode() + b"\0" + secret.value, "sha256").hex() for secret in secrets
        )

    def _unwrap(self, kept: KeptSnapshot, claim: SnapshotClaim) -> bytes:
        """Return the snapshot's key. Raises ValueError, RefusedError for the host's key."""
        if kept.id != claim.id:
            raise ValueError(f"its statement is about the snapshot {claim.id}")
        if Digest.of(kept.key) != claim.key:
            raise ValueError("its key is not the one that its statement names")
        try:
            return b"".join(open_stream(self._key(), _about_key(kept.id), io.BytesIO(kept.key)))
        except ValueError as error:
            raise ValueError(f"its key doesn't open: {error}") from error

    def _ids(self) -> tuple[str, ...]:
        return tuple(name for name in self._directory.names() if re.fullmatch(ID, name))

    def _has_key(self, snapshot: str) -> bool:
        with self._directory.existing(snapshot) as home:
            return home.exists(KEY_FILE)

    def _remove_unheld(self, name: str) -> Iterator[str]:
        """Remove a directory that no process holds; yield the snapshot's id if it was removed."""
        with self._directory.existing(name) as home, suppress(BlockingIOError):
            _hold(home)
            home.remove(KEY_FILE)
            self._directory.remove_tree(name)
            yield name.split(".")[1] if name.startswith(".") else name


class _HashedFile:
    """A file that is read from its beginning, once, and hashed on the way."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> Digest:
        """Of what was read so far."""
        return Digest(self._hash.hexdigest())

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, or all that is left."""
        found = bytearray()
        while len(found) < size and (part := os.pread(self._fd, size - len(found), self._at)):
            self._at += len(part)
            found += part
        self._hash.update(found)
        return bytes(found)


@contextmanager
def _refused(kept: KeptSnapshot) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise _damaged(kept.id, str(error)) from error


def _require_room(home: Directory, *files: int) -> None:
    """Raise OSError where a file system has no room for all that these files hold, and some more for the host."""
    needed = sum(os.fstat(fd).st_blocks for fd in files) * 512 + _SPARE
    room = os.fstatvfs(home.fd)
    if room.f_bavail * room.f_frsize < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _blocks(memory: int, size: int, disk: DataAttachment | None) -> Iterator[tuple[int, bytes]]:
    """Yield what a guest has: the blocks of its memory, and those of its disk as if they lay behind the memory."""
    yield from guest_memory.first_blocks(memory, size)
    if disk is not None:
        yield from ((size + at, data) for at, data in guest_memory.first_blocks(disk.file, disk.size))


def _filling(disk: PreparedDisk, pieces: Iterable[tuple[int, bytes]], size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a memory of `size` bytes, and write those of the disk to it. Raises OSError."""
    for at, data in pieces:
        if at < size:
            yield at, data
        else:
            disk.write(at - size, data)


def _read(sealed: int, claim: SnapshotClaim, key: bytes) -> tuple[bytes, bytes, Iterator[tuple[int, bytes]]]:
    """Return the state of the devices, what unlocks the disk, and all blocks: nothing counts before their last is read.

    Raises ValueError, as the iterator does; OSError.
    """
    if os.fstat(sealed).st_size != claim.sealed_bytes:
        raise ValueError(_ANOTHER_SIZE)
    source = _HashedFile(sealed)
    stream = PlainStream(open_stream(key, _about(claim.id), source))
    state = stream.exactly(claim.state_bytes)
    unlocks = stream.exactly(UNLOCKING_BYTES) if claim.data_mib else b""
    return state, unlocks, _pieces(stream, (claim.memory_mib + claim.data_mib) << 20, source, claim.sealed)


def _check(sealed: int, claim: SnapshotClaim, key: bytes) -> None:
    """Read a sealed file to its end. Raises as `_read` does."""
    _, _, pieces = _read(sealed, claim, key)
    deque(pieces, maxlen=0)


def _pieces(stream: PlainStream, size: int, source: _HashedFile, expected: Digest) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of memory and disk. Raises ValueError at their end, unless the file was this one."""
    yield from guest_memory.unpack(stream, size)
    if source.digest != expected:
        raise ValueError("its sealed file is not the one that its statement is about")


def _about(snapshot: str) -> bytes:
    return b"the memory of the snapshot " + snapshot.encode()


def _about_key(snapshot: str) -> bytes:
    return b"the key of the snapshot " + snapshot.encode()


def _checked(snapshot: str) -> str:
    """Return a snapshot's id. Raises ValueError for what is none, and could be the name of anything."""
    if not re.fullmatch(ID, snapshot):
        raise ValueError(f"not the id of a snapshot: {snapshot[:80]!r}")
    return snapshot


def _hold(home: Directory) -> None:
    """Keep sweeps from a directory until it is closed. Raises BlockingIOError where another process holds it."""
    fcntl.flock(home.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _listed(snapshot: str, home: Directory) -> ListedSnapshot:
    bundle, plan, size = b"", b"", 0
    with suppress(FileNotFoundError, UnreadableError):
        bundle = home.read(BUNDLE_FILE, BUNDLE_LIMIT)
    with suppress(FileNotFoundError, UnreadableError):
        plan = home.read(PLAN_FILE, BUNDLE_LIMIT)
    with suppress(FileNotFoundError):
        fd = home.open_file(SEALED_FILE)
        size = os.fstat(fd).st_size
        os.close(fd)
    return ListedSnapshot(snapshot, bundle, plan, size)


def _missing(snapshot: str) -> UsageError:
    return UsageError(f"there is no snapshot {snapshot[:80]!r}", hint="name one that is kept here: mvm snapshot ls")


def _damaged(snapshot: str, why: str) -> RefusedError:
    hint = "find out who changed it; then remove it"
    return refuse(ReasonCode.SNAPSHOT_DAMAGED, f"the snapshot {snapshot}", why, hint)
