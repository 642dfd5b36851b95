"""A log, where it lies and who signs it: what the tests of this room share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mvmnix.audit.log import AuditLog
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint, NoteKey, Signer
from mvmnix.audit.reading import last_records
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.segment import CAPACITY
from mvmnix.digest import Digest
from mvmnix.system.private_dirs import Directory

#: Records of three segments.
SIZE = 2 * CAPACITY + 5
NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class World:
    """A log, where it lies, and who signs it."""

    path: Path
    directory: Directory
    signer: Signer
    log: AuditLog

    @property
    def key(self) -> NoteKey:
        return self.signer.key

    @property
    def kinds(self) -> list[RecordKind]:
        """Of all sealed records, in order."""
        return [listed.record.kind for listed in last_records(self.directory, self.key, last=10**6)]

    def fill(self, count: int) -> None:
        for number in range(count):
            self.log.append(record(number))


@contextmanager
def new_world(path: Path) -> Iterator[World]:
    """A log in a directory that is made for it, with a key of its own."""
    signer = new_signer()
    with Directory.create(str(path)) as directory:
        yield World(path, directory, signer, AuditLog(directory, signer))


def new_signer(seed: int = 1) -> Signer:
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return Signer.of_log(key.public_key().public_bytes_raw(), key.sign)


def record(number: int) -> Record:
    return Record(
        kind=RecordKind.START,
        time=NOON + timedelta(seconds=number),
        machine=f"m{number}",
        plan=Digest.of(b"plan %d" % number),
        policy=Digest.of(b"policy"),
    )


def content(path: Path) -> bytes:
    """A segment's file without what was written ahead."""
    return path.read_bytes().rstrip(b" ")


def checkpoint(size: int, seed: int = 1, first: int = 0) -> Checkpoint:
    tree = CompactRange().extend(record(number).line for number in range(first, first + size))
    return Checkpoint.sign(size, tree.root(), new_signer(seed))


KEY = new_signer().key
