"""When a boot counts as hung or stalled, by looks at guests that don't exist, at a time that nobody's clock shows."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.system.loop import Loop
from mvmnix.vmm.boot_watchdog import BootBudget, BootWatchdog, Sample, StallReason, StallRule
from mvmnix.vmm.scheduling import Schedule, Thread

type Look = tuple[float, float, int]

STEP = 0.25
MAIN = Thread(7, "qemu", "S", 300, 0)
PROCESSOR = Thread(8, "CPU 0/TCG", "S", 900, 0)


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ([(9.9, 9.9, 0)], False),
        ([(10.0, 10.0, 0)], True),  # it spins
        ([(19.9, 0.1, 0)], False),  # the host is busy
        ([(20.0, 0.1, 0)], True),  # it sleeps
        ([(9.0, 9.0, 1), (18.0, 18.0, 1)], False),  # a sign of life starts both anew
        ([(9.0, 9.0, 1), (19.0, 19.0, 1)], True),
        ([(15.0, 1.0, 1), (34.0, 2.0, 1)], False),
        ([(15.0, 1.0, 1), (35.0, 2.0, 1)], True),
        ([(15.0, 1.0, 1), (30.0, 2.0, 2), (45.0, 3.0, 3), (49.9, 3.0, 4)], False),
        ([(15.0, 1.0, 1), (30.0, 2.0, 2), (45.0, 3.0, 3), (50.0, 3.0, 4)], True),  # it chatters for ever
    ],
)
def test_patience(looks: list[Look], verdict: bool) -> None:
    patience = BootBudget(10.0, began=0.0)
    found = [patience.exhausted(now=now, cpu=cpu, progress=progress) for now, cpu, progress in looks]
    assert found == [False] * (len(looks) - 1) + [verdict]


def boot(
    *,
    cpu: Callable[[float], float] = lambda now: min(now, 1.2),
    progress: Callable[[float], int] = lambda now: int(now < 1),
    running: Callable[[float], bool] = lambda _: True,
    throttled: Callable[[float], int] = lambda _: 0,
    state: Callable[[float], str] = lambda _: "S",
    delay: Callable[[float], int | None] = lambda _: 0,
    seconds: float = 60.0,
    step: float = STEP,
) -> Iterator[Sample]:
    """Looks at a guest that boots for 1.2 s and then stands still, but for what is said otherwise, by the time."""
    for number in range(int(seconds / step) + 1):
        now = number * step
        threads = (MAIN, replace(PROCESSOR, state=state(now), delay_ns=delay(now)))
        yield Sample(now, cpu(now), progress(now), running(now), Schedule(threads, throttled(now)))


def stalled_at(looks: Iterator[Sample]) -> float | None:
    """When the rule says so first."""
    rule = StallRule()
    return next((sample.now for sample in looks if rule.stalled(sample)), None)


def ns(seconds: float) -> int:
    return int(seconds * 1e9)


#: By what is the matter, the seconds at which a boot counts as stalled; None: never, within a minute.
ROWS: dict[str, tuple[dict[str, Any], float | None]] = {
    "it stands still": ({}, 9.25),  # the last 8 s have less than 0.1 s of CPU
    "it used up to a tenth of a second just now": ({"cpu": lambda now: min(now, 1.2) + 0.0099 * now / 8}, 9.25),
    "it ticks": ({"cpu": lambda now: min(now, 1.2) + 0.0124 * now}, 9.25),
    "it ticks a little faster": ({"cpu": lambda now: min(now, 1.2) + 0.0126 * now}, None),
    "it works": ({"cpu": lambda now: now}, None),
    "it works now and then": ({"cpu": lambda now: 1.2 + 0.11 * (now // 8)}, None),
    "it had used less than a second": ({"cpu": lambda now: min(now, 0.99)}, None),
    "it had used a second": ({"cpu": lambda now: min(now, 1.0)}, 9.0),
    "a byte comes every 8 seconds": ({"progress": lambda now: int(now // 8)}, None),
    "a byte came late": ({"progress": lambda now: int(now >= 9)}, 17.0),
    "it was never said to run": ({"running": lambda _: False}, None),
    "it runs from a time on": ({"running": lambda now: now >= 5}, 13.0),
    "it was stopped by a signal": ({"state": lambda _: "T"}, None),
    "it was stopped, and went on": ({"state": lambda now: "T" if now < 20 else "S"}, 28.0),
    "it is traced": ({"state": lambda _: "t"}, None),
    "it waits for a device of the host": ({"state": lambda _: "D"}, None),
    "it waits for a slow disk": ({"state": lambda now: "S" if now % 2.5 == 0 else "D"}, None),
    "it waited for one": ({"state": lambda now: "S" if now % 2.5 == 0 or now > 10 else "D"}, 16.0),
    "it could run, and never does": ({"state": lambda _: "R"}, None),
    "it could run, at one look": ({"state": lambda now: "R" if now == 9.25 else "S"}, 9.5),
    "a loaded host": ({"cpu": lambda now: min(now, 1.2) + 0.01 * now, "delay": lambda now: ns(0.99 * now)}, None),
    "a host that was loaded": ({"delay": lambda now: ns(min(now, 10.0))}, 17.25),
    "a host with some load": ({"delay": lambda now: ns(0.12 * now)}, 9.25),
    "a host with more load": ({"delay": lambda now: ns(0.13 * now)}, None),
    "a kernel that doesn't tell": ({"delay": lambda _: None}, None),
    "its group is throttled": ({"throttled": lambda now: int(now * 10)}, None),
    "its group was throttled": ({"throttled": lambda now: min(int(now * 10), 50)}, 13.0),
    "it is not looked at": ({"step": 2.25}, None),
    "it is looked at seldom": ({"step": 2.0}, 10.0),
}


@pytest.mark.parametrize(("changes", "at"), ROWS.values(), ids=ROWS.keys())
def test_a_stall(changes: dict[str, Any], at: float | None) -> None:
    assert stalled_at(boot(**changes)) == at


def test_a_process_that_is_gone_has_not_stalled() -> None:
    gone = Schedule((), 0)
    assert stalled_at(replace(sample, schedule=gone) for sample in boot()) is None


def test_whoever_looks_after_a_pause_begins_anew() -> None:
    """A supervisor that didn't run itself knows nothing of what its guest could have done."""
    looks = [sample for sample in boot() if not 5 < sample.now < 30]
    assert stalled_at(iter(looks)) == 38.0


def test_what_another_thread_waited_before_does_not_count() -> None:
    before, after = Schedule((replace(MAIN, delay_ns=ns(5)),), 0), Schedule((PROCESSOR,), 0)
    assert after.delayed_since(before) == 0.0
    assert before.delayed_since(after) == 5.0


class Guest:
    """Looks from a list, the last one again and again."""

    def __init__(self, looks: list[Sample]) -> None:
        self.looks = looks

    def look(self) -> Sample:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def watched(looks: list[Sample], budget: float, *, stalls: bool = True, seconds: float = 1.0) -> list[StallReason]:
    """What a watchdog on a real loop says of these."""
    loop, verdicts = Loop(), list[StallReason]()
    dog = BootWatchdog(loop, Guest(looks).look, budget, verdicts.append, stalls=stalls)
    expired: list[None] = []
    loop.after(seconds, lambda: expired.append(None))
    while not verdicts and not expired:
        loop.turn()
    dog.cancel()
    loop.close()
    return verdicts


def test_the_watchdog_tells_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.vmm.boot_watchdog._LOOK", 0.001)
    assert watched(list(boot()), 60.0) == [StallReason.STALLED]
    assert watched(list(boot(cpu=lambda now: now)), 20.0) == [StallReason.HUNG]
    assert watched(list(boot(cpu=lambda now: now, progress=int, seconds=10)), 20.0) == []


def test_a_watchdog_that_is_to_forget_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.vmm.boot_watchdog._LOOK", 0.001)
    assert watched(list(boot(seconds=30)), 60.0, stalls=False) == []
