"""The sample of a run: each row has its day, and whoever names the choice gets the same rows again."""

import pytest

from tests import sample

ROWS = [f"row {number}" for number in range(11)]


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("MVMNIX_SOAK_STARTS", raising=False)
    monkeypatch.setenv(sample.VARIABLE, "739000")
    return monkeypatch


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_each_row_has_its_day(day: pytest.MonkeyPatch, count: int) -> None:
    taken = list[str]()
    for number in range(-(-len(ROWS) // count)):
        day.setenv(sample.VARIABLE, str(739_000 + number))
        chosen = sample.sample(ROWS, count)
        assert len(chosen) == count
        assert chosen == [row for row in ROWS if row in chosen], "in the table's order"
        assert chosen == sample.sample(ROWS, count)
        taken += chosen
    assert set(taken) == set(ROWS)


def test_soak_takes_all_of_them(day: pytest.MonkeyPatch) -> None:
    assert len(sample.sample(ROWS, 2)) == 2
    day.setenv("MVMNIX_SOAK_STARTS", "1000")
    assert sample.sample(ROWS, 2) == ROWS


def test_the_choice_is_the_day_s_where_nobody_chose(day: pytest.MonkeyPatch) -> None:
    day.delenv(sample.VARIABLE)
    assert int(sample.choose_sample()) > 739_000
    assert sample.choose_sample() == sample.choose_sample()
