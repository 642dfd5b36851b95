"""What is kept of verdicts: bounded, for its owner alone, readable while it is written."""

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.machines import network_log
from mvmnix.machines.network_log import (
    FIRST,
    NEWER,
    OLDER,
    LoggedEvent,
    MissingEvents,
    NetworkLog,
    NetworkLogReader,
    kept_digest,
)
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.system.private_dirs import Directory

_TIME, _MACHINE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "0123456789ab"


def event(number: int) -> NetworkEvent:
    """The end of a connection, of which nothing is kept apart."""
    return NetworkEvent(NetworkEventKind.CLOSED, name=f"n{number}.example.com")


def logged(number: int, first: int = 0) -> LoggedEvent:
    """The line of an event, where that of `first` is line 1."""
    return LoggedEvent(_TIME, _MACHINE, event(number), number - first + 1)


def opened(name: str, rule: str = "allow-1", kind: NetworkEventKind = NetworkEventKind.OPENED) -> NetworkEvent:
    return NetworkEvent(kind, rule=rule, name=name, port=443)


def write(log: NetworkLog, *events: NetworkEvent) -> None:
    for one in events:
        log.write(_TIME, _MACHINE, one)


def read(directory: Directory) -> list[LoggedEvent | MissingEvents]:
    with closing(NetworkLogReader(directory)) as reader:
        return list(reader.read())


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "machine")) as found:
        yield found


def test_what_is_written_is_read_again(directory: Directory, tmp_path: Path) -> None:
    log = NetworkLog(directory)
    write(log, *map(event, range(10)))
    assert read(directory) == [logged(number) for number in range(10)]
    digest = log.close()
    data = (tmp_path / "machine" / NEWER).read_bytes()
    assert digest.hex == hashlib.sha256(data).hexdigest()
    assert stat.S_IMODE((tmp_path / "machine" / NEWER).stat().st_mode) == 0o600


def test_the_oldest_is_dropped(directory: Directory, tmp_path: Path) -> None:
    log = NetworkLog(directory, limit=20 * len(logged(1100, 1000).line()))
    write(log, *map(event, range(1000, 1100)))
    missing, *found = read(directory)
    assert found == [logged(number, 1000) for number in range(1100 - len(found), 1100)]
    assert 10 <= len(found) <= 20
    assert missing == MissingEvents(100 - len(found), 0)
    kept = b"".join((tmp_path / "machine" / name).read_bytes() for name in (OLDER, NEWER))
    assert kept_digest(directory).hex == hashlib.sha256(kept).hexdigest()


def test_a_log_is_followed_over_its_files(directory: Directory) -> None:
    log = NetworkLog(directory, limit=20 * len(logged(1040, 1000).line()))
    with closing(NetworkLogReader(directory)) as reader:
        found = list(reader.read())
        for numbers in batched(range(1000, 1040), 5, strict=True):
            write(log, *map(event, numbers))
            found += reader.read()
    assert found == [logged(number, 1000) for number in range(1000, 1040)]


def test_no_guest_rotates_its_first_deeds_out(directory: Directory, tmp_path: Path) -> None:
    log = NetworkLog(directory, limit=8000)
    denied = NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name="evil.example")
    deeds = [opened("a.example.com"), opened("b.example.com"), denied, opened("a.example.com", "allow-2")]
    write(log, *deeds)
    write(log, *[opened("b.example.com")] * 1000)
    found = read(directory)
    assert [it.event for it in found[:4] if isinstance(it, LoggedEvent)] == deeds
    assert [it.number for it in found[:4] if isinstance(it, LoggedEvent)] == [1, 2, 3, 4]
    assert isinstance(found[4], MissingEvents)
    assert (found[4].count + len(found) - 1, found[4].others) == (1004, 0)
    assert all(isinstance(it, LoggedEvent) and it.number > 4 for it in found[5:])
    assert log.close() == kept_digest(directory)
    first = tmp_path / "machine" / FIRST
    assert (len(first.read_bytes().splitlines()), stat.S_IMODE(first.stat().st_mode)) == (5, 0o600)
    first.write_bytes(first.read_bytes().replace(b"evil", b"good"))
    kept = b"".join((tmp_path / "machine" / name).read_bytes() for name in (FIRST, OLDER, NEWER))
    assert kept_digest(directory).hex == hashlib.sha256(kept).hexdigest()


def test_first_deeds_are_bounded_and_those_of_one_kind_displace_no_others(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_log, "MOST_FIRST", 100)
    log = NetworkLog(directory, limit=2000)
    write(log, *(opened(f"n{number}.example.com", kind=NetworkEventKind.NAME) for number in range(1000)))
    denied = NetworkEventKind.DENIED
    write(log, *(opened(f"n{number}.example.com", kind=denied) for number in range(30)))
    write(log, *(opened(f"n{number}.example.com", "allow-2", denied) for number in range(10)))
    write(log, *[opened("last.example.com", "allow-3", denied)] * 100)
    found = read(directory)
    firsts = [it.event for it in found if isinstance(it, LoggedEvent)][:100]
    assert Counter((it.kind, it.rule) for it in firsts) == {
        (NetworkEventKind.NAME, "allow-1"): 64,
        (denied, "allow-1"): 30,
        (denied, "allow-2"): 6,
    }
    (missing,) = (it for it in found if isinstance(it, MissingEvents))
    assert missing.others == 1000 - 64 + 4 + 100


def test_what_is_written_after_the_end_is_lost(directory: Directory) -> None:
    log = NetworkLog(directory)
    write(log, event(0))
    digest = log.close()
    write(log, event(1))
    assert (kept_digest(directory), read(directory)) == (digest, [logged(0)])


def test_another_file_is_refused(directory: Directory) -> None:
    directory.write_atomic(NEWER, b"not what mvm writes\n")
    with pytest.raises(MvmnixError, match="not what mvm writes"):
        read(directory)


def test_a_failing_disk_ends_nothing(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    log = NetworkLog(directory)

    def full(_name: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "create_file", full)
    write(log, opened("a.example"), event(1))
    assert read(directory) == []


def test_a_line_for_people() -> None:
    closed = NetworkEvent(
        NetworkEventKind.CLOSED, rule="allow-1", name="a.example.com", address="192.0.2.1", port=443, sent=5, received=7
    )
    assert LoggedEvent(_TIME, _MACHINE, closed).text() == (
        "2026-01-02T03:04:05Z closed a.example.com:443 at 192.0.2.1 by allow-1, 5 bytes sent, 7 received"
    )


def test_a_refusal_is_shown_with_the_option_that_would_allow_it() -> None:
    denied = NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name="a.example.com", port=443)
    line = LoggedEvent(_TIME, _MACHINE, denied, 1)
    assert b"--allow" not in line.line(), "it is made anew, of fields that were checked"
    assert LoggedEvent.parse(line.line().rstrip()) == line
    assert line.text().endswith("denied a.example.com:443 [no-rule]; --allow https://a.example.com would allow it")
    assert line.shown()["flag"] == "--allow https://a.example.com"


def test_no_gateway_displaces_the_dialers_word_by_what_it_makes_up(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_log, "MOST_FIRST", 10)
    log = NetworkLog(directory, limit=2000)
    made_up = [NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name=f"n{number}.example") for number in range(20)]
    kinds = ("OPENED", "INBOUND", "BREACH", "FORGED", "UNREPORTED")
    certain = [opened("a.example.com", kind=NetworkEventKind[kind]) for kind in kinds]
    write(log, *made_up, *certain, *[made_up[0]] * 100)
    found = [it for it in read(directory) if isinstance(it, LoggedEvent)]
    assert [it.event for it in found[:15]] == [*made_up[:10], *certain]


@pytest.mark.parametrize("taken", [0, 5, None], ids=["nothing", "some bytes", "an error"])
def test_a_disk_that_is_full_at_the_first_event_loses_that_alone(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, taken: int | None
) -> None:
    pwrite = os.pwrite
    log = NetworkLog(directory, limit=2000)

    def full(fd: int, data: bytes, offset: int) -> int:
        if taken is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data[:taken], offset)

    monkeypatch.setattr(os, "pwrite", full)
    write(log, opened("a.example"))
    assert not directory.exists(FIRST)
    monkeypatch.setattr(os, "pwrite", pwrite)
    write(log, opened("b.example"), *map(event, range(100)))
    log.close()
    found = [it.event for it in read(directory) if isinstance(it, LoggedEvent)]
    assert (found[0], found[-1]) == (opened("b.example"), event(99))


@pytest.mark.parametrize("head", [b"", b'{"others":'])
def test_first_events_without_a_whole_head_are_none(directory: Directory, head: bytes) -> None:
    log = NetworkLog(directory, limit=2000)
    write(log, *map(event, range(100)))
    log.close()
    directory.write_atomic(FIRST, head)
    missing, *found = read(directory)
    assert missing == MissingEvents(100 - len(found), 0)
