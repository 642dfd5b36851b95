"""The time stamp counter's frequency: the rule, and a real measurement."""

import pytest

from mvmnix.vmm.tsc import PLAUSIBLE, Reading, TscClock, frequency


@pytest.mark.parametrize(
    ("ticks", "nanoseconds"),
    [(0, 1_000_000), (-5, 1_000_000), (1000, 0), (1000, -1), (10**12, 1_000_000), (1_000, 1_000_000)],
)
def test_an_implausible_frequency_is_refused(ticks: int, nanoseconds: int) -> None:
    with pytest.raises(ValueError, match="not a frequency"):
        frequency(Reading(0, 0), Reading(ticks, nanoseconds))


def test_two_measurements_agree() -> None:
    first, second = TscClock.start().khz(), TscClock.start().khz()
    assert first in PLAUSIBLE
    assert abs(first - second) < first // 20
