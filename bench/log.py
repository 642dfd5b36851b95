"""Appends to an audit log beside bare writes of as many bytes, each synced, and checks a long log."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.measurement import Figure, in_time, in_turns_with
from bench.pairs import Pair, Times, in_turns
from mvmnix.audit.anchored_log import check_against_anchor
from mvmnix.audit.log import AuditLog
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint, Signer
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.segment import CAPACITY, WIDTH, Segment, SegmentSeal, segment_name
from mvmnix.audit.verify import verify_log
from mvmnix.digest import Digest
from mvmnix.system.private_dirs import Directory

#: Records of the long log.
MANY = 100_000
_ROUNDS = 100
_BARE = "bare write and fsync of as many bytes"


def log(*, rounds: int) -> Iterator[Figure]:
    """Measure the log alone, on the file system of the home directory, which needs no world."""
    with _places() as (base, directory, signer):
        times = _appends(base, directory, signer, rounds)
    bare = times.pop(_BARE)
    for what, taken in times.items():
        asked = "ratio at most 2" if "first" not in what else ""
        yield in_turns_with(what, _BARE, Pair(taken, bare), asked, unit="ms")
    with _places() as (base, directory, signer):
        note = _long(directory, signer)
        for what, taken in _checks(directory, signer, note, rounds).items():
            yield in_time(what, taken.seconds, "under 5,000" if "verify" in what else "")


@contextmanager
def _places() -> Iterator[tuple[Path, Directory, Signer]]:
    key = Ed25519PrivateKey.generate()
    signer = Signer.of_log(key.public_key().public_bytes_raw(), key.sign)
    with (
        tempfile.TemporaryDirectory(prefix="mvmnix-bench-log-", dir=Path.home()) as name,
        Directory.create(f"{name}/audit") as directory,
    ):
        yield Path(name), directory, signer


def _record(number: int) -> Record:
    """What a launch writes: starts and ends in turn, each start with its end."""
    names = ("kernel", "initrd", "rootfs", "provenance", "argv")
    return Record(
        kind=RecordKind.END if number % 2 else RecordKind.START,
        time=datetime.now(UTC),
        machine=f"{number // 2:012x}",
        plan=Digest.of(b"plan %d" % number),
        policy=Digest.of(b"policy"),
        digests={name: Digest.of(f"{name} {number}".encode()) for name in names},
        serials=(1, 2, 3, 4),
    )


def _appends(base: Path, directory: Directory, signer: Signer, rounds: int) -> dict[str, Times]:
    """A log that goes on in one process, one that each process opens anew, and bytes that are nothing."""
    (base / "another").mkdir(mode=0o700)
    another = Directory.open(str(base / "another"))
    ours, one = AuditLog(directory, signer), _record(1)
    data = os.urandom(len(one.line) + 1 + WIDTH)
    fd = os.open(base / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def bare() -> None:
        os.write(fd, data)
        os.fsync(fd)

    subjects: dict[str, Callable[[], object]] = {
        "append of a record": lambda: ours.append(one),
        "bare write and fsync of as many bytes": bare,
        "first append of a process, to up to 128 records": lambda: AuditLog(another, signer).append(one),
    }
    try:
        return in_turns(subjects, rounds=_ROUNDS * rounds)
    finally:
        os.close(fd)
        another.close()


def _long(directory: Directory, signer: Signer) -> bytes:
    """A log of many records, as the log itself would have written it; returns a checkpoint from the middle."""
    tree, middle = CompactRange(), b""
    for first in range(0, MANY, CAPACITY):
        segment = Segment(tree, tuple(_record(number).line for number in range(first, min(MANY, first + CAPACITY))))
        tree = tree.extend(segment.lines)
        checkpoint = Checkpoint.sign(tree.size, tree.root(), signer)
        if tree.size == MANY:
            segment = Segment(segment.before, segment.lines[:-1]).sealed(segment.lines[-1], SegmentSeal.of(checkpoint))
        elif first <= MANY // 2:
            middle = checkpoint.note
        directory.write_atomic(segment_name(first), segment.data)
    return middle


def _checks(directory: Directory, signer: Signer, note: bytes, rounds: int) -> dict[str, Times]:
    latest = AuditLog(directory, signer).append(_record(1)).checkpoint.note
    subjects: dict[str, Callable[[], object]] = {
        f"verify of {MANY:,} records": lambda: verify_log(directory, signer.key, note),
        f"check against an anchor that has seen the last of {MANY:,} records": lambda: check_against_anchor(
            directory, signer.key, latest
        ),
    }
    return in_turns(subjects, rounds=rounds)
