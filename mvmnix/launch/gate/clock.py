"""The only judge of the host's clock: keeps a lower bound of the true time, and refuses a clock that fell behind it.

Windows, expiry and freshness are worth nothing under a clock that was set back. The bound, called the mark, is
kept in the state directory and never taken from the wall clock again once it is there:

1. the first time, the wall clock is trusted: there is nothing else;
2. within one boot of the host, the mark moves on by what CLOCK_BOOTTIME counted (it counts suspended time too);
3. across boots it stays, since it isn't known how long the host was off;
4. a wall clock that is behind the mark by more than TOLERANCE is refused: clock-went-back;
5. a wall clock that moved by more than NOTICED against CLOCK_BOOTTIME, either way, is told the user. So is one that
   moved back across boots without falling behind the mark.

So a clock that jumped forward never becomes the mark, and works again once it was corrected.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UnreadableError, refuse
from mvmnix.formats import strict
from mvmnix.system.file_lock import Lock
from mvmnix.system.private_dirs import Directory

CLOCK: Final = "clock.json"
LOCK: Final = "lock"
#: CLOCK_BOOTTIME runs at the rate of an oscillator, wrong by up to 50 millionths: five minutes in 70 days without
#: synchronization, all of which one correction may take back. provenance/verify/checks.py allows others' clocks as
#: much.
TOLERANCE: Final = timedelta(minutes=5)
#: Larger steps than synchronization makes of itself, leap seconds included.
NOTICED: Final = timedelta(seconds=10)
#: The file is written when so much has passed since: a start waits for no disk on its account, and a boot in between
#: takes no more from the mark.
_RENEWED: Final = timedelta(seconds=60)
_LIMIT: Final = 4096
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: Which time namespace this is (time_namespaces(7)), and by how much it is offset: its number may be given again.
_TIME_NAMESPACE: Final = Path("/proc/self/ns/time")
_OFFSETS: Final = Path("/proc/self/timens_offsets")
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST: Final = _START + strict.MAX_INTEGER * _MICROSECOND
_NOTHING: Final = timedelta()
_SET_IT: Final = "set the clock; if it is right and the mark isn't, docs/explanation/replay.md says how to begin anew"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the host's clocks say at one moment.

    `wall` is UTC; `elapsed` is CLOCK_BOOTTIME, which counts from the host's boot, or from elsewhere in a time
    namespace; two can be compared when their `epoch` is the same: the boot's id and the time namespace.
    """

    wall: datetime
    elapsed: timedelta
    epoch: str


def read_clocks() -> Reading:
    """The clocks of this host, now. Raises MvmnixError when the kernel doesn't say which boot this is."""
    try:
        boot = _BOOT_ID.read_text().strip()
        namespace = f"{_TIME_NAMESPACE.readlink()} {_OFFSETS.read_text()}" if _TIME_NAMESPACE.is_symlink() else ""
    except OSError as error:
        raise MvmnixError(f"which boot this is can't be read: {error}", hint="have /proc mounted") from error
    elapsed = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 * _MICROSECOND
    return Reading(datetime.now(UTC), elapsed, " ".join((boot, *namespace.split())))


@dataclass(frozen=True, slots=True)
class Mark:
    """It was at least `least` when the clocks said `at`."""

    least: datetime
    at: Reading

    def advanced(self, now: Reading) -> "Mark":
        """The mark at a later reading: steps 2 and 3."""
        if now.epoch != self.at.epoch:
            return Mark(self.least, now)  # 3
        return Mark(self.least + max(now.elapsed - self.at.elapsed, _NOTHING), now)  # 2

    def jump(self, now: Reading) -> timedelta:
        """By how much the wall clock was set since, as far as can be told: negative when it was set back."""
        moved = _writable(now.wall) - self.at.wall
        return moved - (now.elapsed - self.at.elapsed) if now.epoch == self.at.epoch else min(moved, _NOTHING)

    def to_bytes(self) -> bytes:
        """Canonical JSON; times in microseconds."""
        value = {
            "version": 1,
            "leastMicros": _micros(self.least),
            "wallMicros": _micros(self.at.wall),
            "elapsedMicros": self.at.elapsed // _MICROSECOND,
            "epoch": self.at.epoch,
        }
        return strict.canonical(value)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises MalformedError."""
        return strict.read(strict.parse_json(data), CLOCK, lambda record: cls(*_parts(record)))


def _parts(record: strict.Record) -> tuple[datetime, Reading]:
    record.integer("version", 1, 1)
    least, wall = (_START + record.integer(name, 0, strict.MAX_INTEGER) * _MICROSECOND for name in _TIMES)
    elapsed = record.integer("elapsedMicros", 0, strict.MAX_INTEGER) * _MICROSECOND
    return least, Reading(wall, elapsed, record.text("epoch", "[ -~]{1,256}"))


_TIMES: Final = ("leastMicros", "wallMicros")


def _micros(moment: datetime) -> int:
    return (_writable(moment) - _START) // _MICROSECOND


def _writable(moment: datetime) -> datetime:
    """What a broken clock says beyond what can be written, 1970 to 2255, is written as the nearest that can."""
    return min(max(moment, _START), _LAST)


@dataclass(frozen=True, slots=True)
class Moment:
    """What time it is by a clock that may be relied on; `least` is the mark as it is on the disk."""

    now: datetime
    least: datetime

    @property
    def past(self) -> datetime:
        """No later reading will be accepted that says an earlier time than this, whatever happens to the host."""
        return self.least - TOLERANCE


class HostClock:
    """The host's clock, and its mark in a directory that is shared with the nonces (launch/gate/replay.py)."""

    def __init__(
        self, directory: Directory, notice: Callable[[str], None], read: Callable[[], Reading] = read_clocks
    ) -> None:
        """The directory stays the caller's to close; `notice` takes a line of prose for the user."""
        self._directory = directory
        self._notice = notice
        self._read = read

    def now(self) -> datetime:
        """The wall clock's time, once it passed. Raises as `moment`."""
        with clock_lock(self._directory):
            return self.moment().now

    def moment(self) -> Moment:
        """The same with the mark; the caller holds the directory's lock.

        Raises RefusedError [clock-went-back, state-mismatch], MvmnixError when the mark can't be read or written.
        """
        try:
            return self._moment(self._read())
        except OSError as error:
            raise unusable_clock(self._directory, error) from error

    def look(self) -> Moment:
        """As `moment`, but nothing is written and the user is not told."""
        try:
            reading = self._read()
            kept, mark = self._marked(reading)
        except OSError as error:
            raise unusable_clock(self._directory, error) from error
        return Moment(reading.wall, mark.least if kept is None or _is_due(kept, reading) else kept.least)

    def _moment(self, reading: Reading) -> Moment:
        kept, mark = self._marked(reading)
        jump = _NOTHING if kept is None else kept.jump(reading)
        if abs(jump) > NOTICED:  # 5
            self._notice(_jump_words(jump))
        if kept is not None and not _is_due(kept, reading):
            return Moment(reading.wall, kept.least)
        self._directory.write_atomic(CLOCK, mark.to_bytes())
        return Moment(reading.wall, mark.least)

    def _marked(self, reading: Reading) -> tuple[Mark | None, Mark]:
        """The mark as it was kept, and as it is now. Raises RefusedError when the wall clock is behind it."""
        kept = self._kept()
        mark = Mark(reading.wall, reading) if kept is None else kept.advanced(reading)  # 1
        if reading.wall < mark.least - TOLERANCE:  # 4
            why = (
                f"it says {_shown(reading.wall)}, but it is at least {_shown(mark.least)}: expired plans would be taken"
            )
            raise refuse(ReasonCode.CLOCK_WENT_BACK, "the clock", why, _SET_IT)
        return kept, mark

    def _kept(self) -> Mark | None:
        """The mark as it was kept. None the first time; when nonces are there without one, it was taken away."""
        try:
            return Mark.parse(self._directory.read(CLOCK, _LIMIT))
        except FileNotFoundError:
            if set(self._directory.names()) <= {LOCK}:
                return None
            raise state_mismatch(self._directory, f"nonces are kept there, but no {CLOCK}") from None
        except (strict.MalformedError, UnreadableError) as error:
            raise state_mismatch(self._directory, f"{CLOCK} is not what mvm writes: {error}") from error


def _is_due(kept: Mark, reading: Reading) -> bool:
    """Whether the mark is to be written: it is old, or the wall clock was set, which is told once."""
    old = kept.at.epoch != reading.epoch or not _NOTHING <= reading.elapsed - kept.at.elapsed < _RENEWED
    return old or abs(kept.jump(reading)) > NOTICED


def _jump_words(jump: timedelta) -> str:
    way = "forward" if jump > _NOTHING else "back"
    seconds = timedelta(seconds=round(abs(jump).total_seconds()))
    return f"the host's clock was set {way} by {seconds} since a machine was last started"


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def clock_lock(directory: Directory) -> Lock:
    """The lock under which mark and nonces are changed. Raises MvmnixError when it can't be had."""
    try:
        return directory.lock(LOCK)
    except OSError as error:
        raise unusable_clock(directory, error) from error


def looked_at(directory: Directory) -> AbstractContextManager[Lock | None]:
    """The same for a caller that only looks: where no start was ever tried there is no lock, and none is made."""
    return clock_lock(directory) if directory.exists(LOCK) else nullcontext()


def state_mismatch(directory: Directory, why: str) -> RefusedError:
    """A refusal to say that what is kept against replay is not what mvm left there."""
    hint = "put back what was there; docs/explanation/replay.md says how to begin anew when it is lost"
    return refuse(ReasonCode.STATE_MISMATCH, directory.path, why, hint)


def unusable_clock(directory: Directory, error: OSError) -> MvmnixError:
    """An error to say that what has to be kept against replay can't be."""
    hint = "make room or repair the disk; until nonces can be kept, nothing starts"
    return MvmnixError(f"{directory.path} cannot be read or written: {error}", hint=hint)
