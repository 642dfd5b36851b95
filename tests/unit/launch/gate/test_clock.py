"""The host's clock, faked: set back, set forward and put right again, across boots, suspended, in other namespaces."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats.strict import MalformedError
from mvmnix.launch.gate import clock as clocks
from mvmnix.launch.gate.clock import CLOCK, NOTICED, TOLERANCE, HostClock, Mark, Reading, read_clocks
from mvmnix.system.private_dirs import Directory

BEGIN = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=it) for it in (1, 60, 3600, 86400))
MICROSECOND = timedelta(microseconds=1)
YEARS = 10 * 365 * DAY


@dataclass
class Clocks:
    """A host whose clocks a test sets; `wait` is time that really passes."""

    directory: Directory
    notices: list[str] = field(default_factory=list)
    reading: Reading = field(default=Reading(BEGIN, HOUR, "boot 1"))

    def read(self) -> Reading:
        return self.reading

    @property
    def clock(self) -> HostClock:
        """A new one each time, as each process has."""
        return HostClock(self.directory, self.notices.append, self.read)

    def now(self) -> datetime:
        return self.clock.now()

    def least(self) -> datetime:
        """The mark at this moment."""
        with self.directory.lock(clocks.LOCK):
            self.clock.moment()
        return Mark.parse(self.directory.read(CLOCK, 4096)).advanced(self.reading).least

    def wait(self, passed: timedelta) -> None:
        self.reading = replace(self.reading, wall=self.reading.wall + passed, elapsed=self.reading.elapsed + passed)

    def set(self, by: timedelta) -> None:
        self.reading = replace(self.reading, wall=self.reading.wall + by)

    def boot(self, off: timedelta) -> None:
        """Off for so long, and on again; the battery kept the clock."""
        self.reading = Reading(self.reading.wall + off, 3 * SECOND, f"after {self.reading.epoch}")

    def refused(self, code: ReasonCode = ReasonCode.CLOCK_WENT_BACK) -> None:
        with pytest.raises(RefusedError) as caught:
            self.now()
        assert caught.value.codes == (code,)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Clocks]:
    with Directory.create(str(tmp_path / "replay")) as directory:
        yield Clocks(directory)


def test_the_first_time_the_wall_clock_is_believed(host: Clocks) -> None:
    assert host.now() == BEGIN
    assert host.least() == BEGIN
    assert host.notices == []


def test_within_a_boot_the_mark_moves_with_boottime(host: Clocks) -> None:
    host.now()
    for _ in range(50):
        host.wait(7 * MINUTE + timedelta(microseconds=1))
        assert host.least() == host.now() == host.reading.wall
    assert host.notices == []


def test_a_suspended_host_passes_time_too(host: Clocks) -> None:
    """CLOCK_BOOTTIME counts it, so a clock that stood still meanwhile fell behind."""
    host.now()
    host.wait(8 * HOUR)
    assert host.now() == BEGIN + 8 * HOUR
    host.set(-8 * HOUR)
    host.refused()


@pytest.mark.parametrize("written", [timedelta(), 30 * SECOND, 5 * HOUR], ids=str)
def test_a_clock_that_went_back_is_refused_by_every_process_until_it_is_set(host: Clocks, written: timedelta) -> None:
    host.now()
    host.wait(written)
    host.now()
    host.wait(HOUR)
    host.set(-TOLERANCE - timedelta(microseconds=1))
    for _ in range(3):
        host.refused()
        host.wait(SECOND)
    host.set(TOLERANCE)
    assert host.now() == host.reading.wall


def test_what_its_oscillator_may_be_wrong_by_is_no_refusal_but_is_told(host: Clocks) -> None:
    host.now()
    host.wait(HOUR)
    host.set(-TOLERANCE)
    assert host.now() == BEGIN + HOUR - TOLERANCE
    assert host.notices == ["the host's clock was set back by 0:05:00 since a machine was last started"]
    host.now()
    assert len(host.notices) == 1, "it is told once"


def test_small_steps_add_up_to_no_large_one(host: Clocks) -> None:
    """Each is within what synchronization does; the mark is of their sum."""
    host.now()
    for _ in range(30):
        host.wait(HOUR)
        host.set(-NOTICED)
        host.now()
    assert host.notices == []
    host.set(-NOTICED)
    host.refused()


@pytest.mark.parametrize("by", [DAY, YEARS, datetime(9000, 1, 1, tzinfo=UTC) - BEGIN], ids=str)
def test_a_jump_forward_is_told_never_becomes_the_mark_and_can_be_put_right(host: Clocks, by: timedelta) -> None:
    host.now()
    host.wait(HOUR)
    host.set(by)
    for _ in range(3):
        assert host.now() == BEGIN + HOUR + by
        assert host.least() == BEGIN + HOUR
    (told,) = host.notices
    assert "set forward by" in told
    host.set(-by)
    assert host.now() == BEGIN + HOUR
    assert "set back" in host.notices[1]
    host.set(-TOLERANCE - SECOND)
    host.refused()


def test_a_jump_forward_across_a_boot_does_not_become_the_mark_either(host: Clocks) -> None:
    host.now()
    host.boot(YEARS)
    host.wait(HOUR)
    assert host.now() == BEGIN + YEARS + HOUR
    host.set(-YEARS)
    assert host.now() == BEGIN + HOUR
    assert host.least() == BEGIN, "while it was off, or booting, nobody counted"
    host.wait(HOUR)
    assert host.least() == BEGIN + HOUR
    host.boot(timedelta())
    host.set(-YEARS)
    host.refused()


def test_across_boots_a_clock_that_was_set_back_is_told_where_the_mark_cannot_tell(host: Clocks) -> None:
    host.now()
    host.boot(30 * DAY)
    host.now()
    assert host.notices == []
    host.boot(-10 * DAY)
    assert host.now() == BEGIN + 20 * DAY
    (told,) = host.notices
    assert "set back by 10 days" in told


def test_a_battery_that_died(host: Clocks) -> None:
    host.now()
    host.reading = Reading(datetime(1970, 1, 1, tzinfo=UTC), SECOND, "boot 2")
    host.refused()
    host.reading = Reading(BEGIN + DAY, MINUTE, "boot 2")
    assert host.now() == BEGIN + DAY


def test_boottime_that_runs_backwards_moves_nothing(host: Clocks) -> None:
    """A virtual machine that was restored from its snapshot is in the same boot, earlier."""
    host.now()
    host.wait(5 * MINUTE)
    host.now()
    host.reading = replace(host.reading, elapsed=HOUR)
    assert host.least() == BEGIN + 5 * MINUTE
    host.wait(MINUTE)
    assert host.least() == BEGIN + 6 * MINUTE


def test_two_time_namespaces_by_turns_never_move_the_mark_too_far(host: Clocks) -> None:
    """Their CLOCK_BOOTTIME are offset against each other, so they can't be compared."""
    host.now()
    for turn in range(4):
        host.wait(HOUR)
        offset = 1000 * DAY if turn % 2 == 0 else -1000 * DAY
        host.reading = replace(host.reading, elapsed=host.reading.elapsed + offset, epoch=f"namespace {turn % 2}")
        assert host.least() == BEGIN
    assert host.notices == []


def test_the_bound_that_is_handed_out_holds_after_a_crash(host: Clocks) -> None:
    """It is the one on the disk: a boot right after takes nothing from it."""
    host.now()
    host.wait(50 * SECOND)
    with host.directory.lock(clocks.LOCK):
        moment = host.clock.moment()
    assert moment.now == BEGIN + 50 * SECOND
    host.boot(timedelta())
    host.reading = replace(host.reading, wall=moment.past - timedelta(microseconds=1))
    host.refused()


def test_it_is_written_once_a_minute(host: Clocks) -> None:
    def written() -> bytes:
        return host.directory.read(CLOCK, 4096)

    host.now()
    first = written()
    host.wait(59 * SECOND)
    host.now()
    assert written() == first
    host.wait(SECOND)
    host.now()
    assert written() != first


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\0" * 100, b"x" * 5000, b'{"version":1}', b'{"epoch":"x","leastMicros":-1}'], ids=repr
)
def test_a_file_that_is_not_ours(host: Clocks, data: bytes) -> None:
    host.directory.write_atomic(CLOCK, data)
    host.refused(ReasonCode.STATE_MISMATCH)


def test_who_only_looks_sees_what_a_start_would(host: Clocks) -> None:
    """The mark as it is on the disk, or as it would be written."""
    for waited, least in ((0, 0), (30, 0), (29, 0), (1, 60), (3600, 3660)):
        host.wait(waited * SECOND)
        before = host.directory.names()
        seen = host.clock.look()
        assert host.directory.names() == before
        assert seen.least == BEGIN + least * SECOND
        with host.directory.lock(clocks.LOCK):
            assert host.clock.moment() == seen


@pytest.mark.parametrize("way", [1, -1])
def test_a_step_of_ten_seconds_is_not_told(host: Clocks, way: int) -> None:
    host.now()
    first = host.directory.read(CLOCK, 4096)
    host.set(10 * SECOND * way)
    host.now()
    assert (host.notices, host.directory.read(CLOCK, 4096)) == ([], first), "nor is the mark written for it"
    host.set(MICROSECOND * way)
    host.now()
    assert len(host.notices) == 1
    assert host.directory.read(CLOCK, 4096) != first


def test_how_large_a_mark_is_read(host: Clocks) -> None:
    host.now()
    data = host.directory.read(CLOCK, 4096)
    host.directory.write_atomic(CLOCK, data.ljust(4096))
    assert host.now() == BEGIN
    host.directory.write_atomic(CLOCK, data.ljust(4097))
    host.refused(ReasonCode.STATE_MISMATCH)


def test_a_mark_that_was_taken_away_from_the_nonces(host: Clocks) -> None:
    host.now()
    host.directory.child("00").close()
    host.directory.remove(CLOCK)
    host.refused(ReasonCode.STATE_MISMATCH)


def test_a_disk_that_takes_nothing(host: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mvmnix.system.private_dirs.os.fsync", full)
    with pytest.raises(MvmnixError, match=r"No space left.*nothing starts"):
        host.now()
    assert CLOCK not in host.directory.names()


@pytest.mark.parametrize("ask", [HostClock.now, HostClock.look])
def test_clocks_that_can_not_be_read(host: Clocks, ask: Callable[[HostClock], object]) -> None:
    def broken() -> Reading:
        raise OSError(5, "Input/output error")

    with pytest.raises(MvmnixError, match=r"Input/output error.*nothing starts"):
        ask(HostClock(host.directory, host.notices.append, broken))


def test_a_mark_on_the_disk() -> None:
    """In microseconds since 1970. Another version is not read."""
    data = (
        b'{"elapsedMicros":3600000001,"epoch":"boot 1","leastMicros":1788264000000000,"version":1,'
        b'"wallMicros":1788264000000001}'
    )
    mark = Mark(BEGIN, Reading(BEGIN + MICROSECOND, HOUR + MICROSECOND, "boot 1"))
    assert mark.to_bytes() == data
    assert Mark.parse(data) == mark
    for number in (b"0", b"2"):
        with pytest.raises(MalformedError, match="version"):
            Mark.parse(data.replace(b'"version":1', b'"version":' + number))


@pytest.mark.parametrize("name", [b"elapsedMicros", b"leastMicros", b"wallMicros"])
def test_the_least_number_in_a_mark(name: bytes) -> None:
    data = Mark(BEGIN, Reading(BEGIN, HOUR, "boot 1")).to_bytes()
    before, after = data.split(b'"' + name + b'":')
    rest = after.lstrip(b"0123456789")
    Mark.parse(before + b'"' + name + b'":0' + rest)
    with pytest.raises(MalformedError, match=name.decode()):
        Mark.parse(before + b'"' + name + b'":-1' + rest)


def test_a_mark_is_read_as_it_was_written() -> None:
    mark = Mark(BEGIN + timedelta(microseconds=7), Reading(BEGIN, YEARS, "boot time:[1]"))
    assert Mark.parse(mark.to_bytes()) == mark
    for extreme in (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        Mark.parse(Mark(extreme, Reading(extreme, YEARS, "x")).to_bytes())


def test_the_clocks_of_this_host() -> None:
    begin = time.clock_gettime(time.CLOCK_BOOTTIME)
    one, two = read_clocks(), read_clocks()
    assert begin - 0.001 <= one.elapsed.total_seconds() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert one.epoch == two.epoch
    assert one.elapsed <= two.elapsed
    assert one.wall.tzinfo is UTC
    assert Mark.parse(Mark(one.wall, one).to_bytes()).at == one


def test_a_kernel_that_does_not_say_which_boot_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mvmnix.launch.gate.clock._BOOT_ID", tmp_path / "none")
    with pytest.raises(MvmnixError, match="which boot"):
        read_clocks()


def test_an_epoch_is_a_boot_and_a_time_namespace_with_its_offsets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    boot, namespace, offsets = tmp_path / "boot", tmp_path / "time", tmp_path / "offsets"
    for name, path in (("_BOOT_ID", boot), ("_TIME_NAMESPACE", namespace), ("_OFFSETS", offsets)):
        monkeypatch.setattr(f"mvmnix.launch.gate.clock.{name}", path)
    boot.write_text("a-boot\n")
    assert read_clocks().epoch == "a-boot", "a kernel without time namespaces"
    namespace.symlink_to("time:[4026531834]")
    offsets.write_text("monotonic           0         0\nboottime           60         0\n")
    assert read_clocks().epoch == "a-boot time:[4026531834] monotonic 0 0 boottime 60 0"
