"""What is kept of verdicts: bounded, for its owner alone, readable while it is written."""

import hashlib
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.machines.network_log import NEWER, OLDER, LoggedEvent, NetworkLog, NetworkLogReader, kept_digest
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.system.private_dirs import Directory

_TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def logged(number: int) -> LoggedEvent:
    return LoggedEvent(_TIME, "0123456789ab", NetworkEvent(NetworkEventKind.NAME, name=f"n{number}.example.com"))


def read(directory: Directory) -> list[LoggedEvent]:
    with closing(NetworkLogReader(directory)) as reader:
        return list(reader.read())


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "machine")) as found:
        yield found


def test_what_is_written_is_read_again(directory: Directory, tmp_path: Path) -> None:
    log = NetworkLog(directory)
    for number in range(10):
        log.write(logged(number))
    assert read(directory) == [logged(number) for number in range(10)]
    digest = log.close()
    data = (tmp_path / "machine" / NEWER).read_bytes()
    assert digest.hex == hashlib.sha256(data).hexdigest()
    assert stat.S_IMODE((tmp_path / "machine" / NEWER).stat().st_mode) == 0o600


def test_the_oldest_is_dropped(directory: Directory, tmp_path: Path) -> None:
    size = len(logged(1000).line())
    log = NetworkLog(directory, limit=20 * size)
    for number in range(1000, 1100):
        log.write(logged(number))
    found = read(directory)
    assert found == [logged(number) for number in range(1100 - len(found), 1100)]
    assert 10 <= len(found) <= 20
    kept = b"".join((tmp_path / "machine" / name).read_bytes() for name in (OLDER, NEWER))
    assert kept_digest(directory).hex == hashlib.sha256(kept).hexdigest()


def test_a_log_is_followed_over_its_files(directory: Directory) -> None:
    size = len(logged(1000).line())
    log = NetworkLog(directory, limit=20 * size)

    with closing(NetworkLogReader(directory)) as reader:
        found = list(reader.read())
        for numbers in batched(range(1000, 1040), 5, strict=True):
            for number in numbers:
                log.write(logged(number))
            found += reader.read()
    assert found == [logged(number) for number in range(1000, 1040)]


def test_another_file_is_refused(directory: Directory) -> None:
    directory.write_atomic(NEWER, b"not what mvm writes\n")
    with pytest.raises(MvmnixError, match="not what mvm writes"):
        read(directory)


def test_a_failing_disk_ends_nothing(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    log = NetworkLog(directory)

    def full(_name: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "create_file", full)
    log.write(logged(1))
    assert read(directory) == []


def test_a_line_for_people() -> None:
    event = NetworkEvent(
        NetworkEventKind.CLOSED, rule="allow-1", name="a.example.com", address="192.0.2.1", port=443, sent=5, received=7
    )
    assert LoggedEvent(_TIME, "0123456789ab", event).text() == (
        "2026-01-02T03:04:05Z closed a.example.com:443 at 192.0.2.1 by allow-1, 5 bytes sent, 7 received"
    )
