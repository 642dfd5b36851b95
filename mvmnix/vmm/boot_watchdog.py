"""Says when a boot makes no progress: two rules, which read no clock, and what looks at a booting guest now and then.

A boot is hung by its plan's `bootSeconds` (`BootBudget`). It is stalled when its guest has nothing to do any more and
never will, which is seen much sooner (`StallRule`).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mvmnix.system.loop import Loop
from mvmnix.vmm.scheduling import Schedule

#: On a loaded host a guest gets little CPU for its seconds: so many times its budget may pass on the wall.
_WALL_FACTOR: Final = 2.0
#: A guest that chatters for ever makes no progress either: so many times its budget is all there is.
_TOTAL_FACTOR: Final = 5.0
#: A stall: seconds of quiet, of CPU used in all at least, of CPU used in the quiet at most.
_QUIET: Final = 8.0
_USED: Final = 1.0
_IDLE: Final = 0.1
#: Seconds that all threads together may have waited for a processor in the quiet. A guest that wants to go on waits for
#: nearly all of it; the threads of one that stands still are woken now and then, for milliseconds each.
_DELAYED: Final = 1.0
#: Of the looks in the quiet, the part at which a thread waits: of a guest that waits for a slow disk nearly all.
_WAITS: Final = 0.25
#: Seconds between two looks, at most; and after how many a quiet begins anew: then this process didn't run either.
_LOOK: Final = 0.25
_UNWATCHED: Final = 2.0


class StallReason(StrEnum):
    """Why a boot makes no progress; a panic, and what can't be restored, are seen in launch/runtime/boot.py."""

    STALLED = "stalled"
    HUNG = "hung"
    PANICKED = "panicked"
    NOT_RESTORED = "not-restored"


@dataclass(frozen=True, slots=True)
class Sample:
    """How a guest stands. `now` in seconds, of a monotonic clock; `cpu`: its seconds of CPU so far.

    `progress` grows with its signs of life; `running`: whether the hypervisor says that it runs.
    """

    now: float
    cpu: float
    progress: int
    running: bool
    schedule: Schedule


@dataclass(slots=True)
class BootBudget:
    """How long a boot may still take. `budget` in seconds; `began` on the clock that `exhausted` is told.

    It ends when, since the last sign of life, the guest has used up `budget` seconds of CPU (it spins) or twice as many
    have passed on the wall (it sleeps, or the host is busy); and in any case after five times as many.

    >>> patience = BootBudget(10.0, began=0.0)
    >>> patience.exhausted(now=9.0, cpu=9.0, progress=0), patience.exhausted(now=15.0, cpu=3.0, progress=0)
    (False, False)
    >>> patience.exhausted(now=16.0, cpu=11.0, progress=0)
    True
    """

    budget: float
    began: float
    _progress: int = field(default=0, init=False)
    _at: float = field(init=False)
    _cpu: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._at = self.began

    def exhausted(self, *, now: float, cpu: float, progress: int) -> bool:
        """Whether it ends now. `cpu`: the guest's so far, in seconds; `progress`: grows with its signs of life."""
        if progress != self._progress:
            self._progress, self._at, self._cpu = progress, now, cpu
        spins = cpu - self._cpu >= self.budget
        sleeps = now - self._at >= _WALL_FACTOR * self.budget
        return spins or sleeps or now - self.began >= _TOTAL_FACTOR * self.budget


class StallRule:
    """Whether a boot has stalled, for which all of this has to hold.

    1. The guest runs, by its hypervisor's word, and the hypervisor wasn't stopped.
    2. It has used a second of CPU or more: it did begin to boot.
    3. For 8 seconds, in which it was looked at all the time, it gave no sign of life and used less than 0.1 s of CPU.
    4. It wasn't kept from more meanwhile: its groups were not throttled, and its threads waited neither for a processor
       nor for a device of the host, and don't now. Where the kernel doesn't tell, no boot counts as stalled.
    """

    def __init__(self) -> None:
        self._looks = deque[Sample]()

    def stalled(self, sample: Sample) -> bool:
        """Whether it has stalled by now; to be told of every look, in their order."""
        looks = self._looks
        if looks and not _goes_on(looks[-1], sample):
            looks.clear()
        looks.append(sample)
        while len(looks) > 1 and sample.now - looks[1].now >= _QUIET:
            looks.popleft()
        first = looks[0]
        delayed = sample.schedule.delayed_since(first.schedule)
        return (
            sample.running  # 1
            and sample.schedule.runs
            and sample.cpu >= _USED  # 2
            and sample.now - first.now >= _QUIET  # 3
            and sample.cpu - first.cpu < _IDLE
            and delayed is not None  # 4
            and delayed < _DELAYED
            and not sample.schedule.waits
            and sum(look.schedule.waits for look in looks) < _WAITS * len(looks)
        )


def _goes_on(before: Sample, after: Sample) -> bool:
    """Whether a quiet can have lasted from one look to the next."""
    return (
        (before.running, before.schedule.runs) == (after.running, after.schedule.runs) == (True, True)  # 1
        and before.progress == after.progress  # 3
        and after.now - before.now <= _UNWATCHED
        and before.schedule.throttled == after.schedule.throttled  # 4
    )


class BootWatchdog:
    """Looks until it is cancelled, or has told a verdict; `look_on` has it look for another.

    `budget` in seconds, see `BootBudget`. `stalls`: whether it looks for a stall too.
    """

    def __init__(
        self,
        loop: Loop,
        look: Callable[[], Sample],
        budget: float,
        told: Callable[[StallReason], None],
        *,
        stalls: bool,
    ) -> None:
        self._loop = loop
        self._look = look
        self._told = told
        self._pause = min(_LOOK, budget / 10)
        self._patience = BootBudget(budget, began=look().now)
        self._rule = StallRule() if stalls else None
        self._timer = loop.after(self._pause, self._judge)

    def _judge(self) -> None:
        sample = self._look()
        if self._patience.exhausted(now=sample.now, cpu=sample.cpu, progress=sample.progress):
            self._told(StallReason.HUNG)
        elif self._rule is not None and self._rule.stalled(sample):
            self._told(StallReason.STALLED)
        else:
            self.look_on()

    def look_on(self) -> None:
        """Look again, in a while."""
        self._timer = self._loop.after(self._pause, self._judge)

    def forget_stalls(self) -> None:
        """From now on only the plan's seconds count."""
        self._rule = None

    def cancel(self) -> None:
        """Stop looking."""
        self._timer.cancel()
