"""When a boot counts as hung."""

import pytest

from mvmnix.launch.hypervisor.patience import Patience

type Look = tuple[float, float, int]


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
    patience = Patience(10.0, began=0.0)
    found = [patience.exhausted(now=now, cpu=cpu, progress=progress) for now, cpu, progress in looks]
    assert found == [False] * (len(looks) - 1) + [verdict]
