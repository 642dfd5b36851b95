"""Refusals that a guest provokes: counted by rule, bounded whatever it does."""

from hypothesis import given
from hypothesis import strategies as st

from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.tally import LIMIT, OTHERS, Tally
from mvmnix.model import Digest
from tests.unit.audit.world import NOON

A = Digest("a" * 64)


def records(tally: Tally) -> list[Record]:
    return list(tally.records(machine="m", plan=A, policy=A, time=NOON))


@given(st.lists(st.integers(0, 100)))
def test_nothing_is_lost_and_nothing_grows(ports: list[int]) -> None:
    tally = Tally()
    for port in ports:
        tally.count(f"port-{port}-refused")
    assert sum(tally.counts.values()) == len(ports)
    assert len(records(tally)) <= LIMIT + 1
    assert (OTHERS in tally.counts) == (len(set(ports)) > LIMIT)


def test_how_many_rules_are_told_apart() -> None:
    tally = Tally()
    for port in range(18):
        tally.count(f"port-{port}-refused")
    assert tally.counts == {**{f"port-{port}-refused": 1 for port in range(16)}, "others": 2}


def test_each_rule_has_one_record_with_its_count() -> None:
    tally = Tally()
    for _ in range(100_000):
        tally.count("port-80-refused")
    tally.count("port-81-refused")
    found = records(tally)
    assert [(one.kind, one.reasons, one.count) for one in found] == [
        (RecordKind.REFUSAL, ("port-80-refused",), 100_000),
        (RecordKind.REFUSAL, ("port-81-refused",), 1),
    ]
    assert [Record.parse(one.line) for one in found] == found


def test_none_for_a_guest_that_was_refused_nothing() -> None:
    assert records(Tally()) == []
