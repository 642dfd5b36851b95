"""Refusals that a guest provokes: counted by reason, bounded whatever it does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.audit import tally
from mvmnix.audit.tally import Tally


@given(st.lists(st.integers(0, 100)))
def test_nothing_is_lost_and_nothing_grows(ports: list[int]) -> None:
    tally = Tally()
    for port in ports:
        tally.count(f"port-{port}-refused")
    assert sum(tally.counts.values()) == len(ports)
    assert len(tally.counts) <= 17
    assert (("others",) in tally.counts) == (len(set(ports)) > 16)


def test_how_many_reasons_are_told_apart() -> None:
    tally = Tally()
    for port in range(18):
        tally.count(f"port-{port}-refused")
    assert tally.counts == {**{(f"port-{port}-refused",): 1 for port in range(16)}, ("others",): 2}


def test_reasons_are_told_apart_as_a_whole() -> None:
    tally = Tally(limit=2, prefix="network-")
    for more in ((), ("rule-1",), ("rule-1",), ("rule-2",)):
        tally.count("no-rule", *more)
    assert tally.counts == {("network-no-rule",): 1, ("network-no-rule", "rule-1"): 2, ("network-others",): 1}


def test_a_count_stays_a_number_of_the_log() -> None:
    counted = Tally()
    for _ in range(3):
        counted.count("port-80-refused")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "MAX_INTEGER", 4)
        for _ in range(3):
            counted.count("port-80-refused")
    assert counted.counts == {("port-80-refused",): 4}


def test_some_reasons_have_places_of_their_own() -> None:
    tally = Tally(limit=1, prefix="x-", always=("alarm",))
    for reasons in (("alarm",), ("a",), ("b",), ("alarm", "rule-1"), ("a",)):
        tally.count(*reasons)
    assert tally.counts == {("x-alarm",): 1, ("x-a",): 2, ("x-others",): 1, ("x-alarm", "rule-1"): 1}
