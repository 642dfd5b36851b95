"""A claim about a snapshot is read back as it was written; nothing else is read, and nothing else is written."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.agent.frames import Hello
from mvmnix.launch.snapshots.statement import (
    PREDICATE_TYPE,
    SEALED_FILE,
    SnapshotClaim,
    from_statement,
    snapshot_statement,
    unfit,
)
from mvmnix.machines.receipt import HostFile
from mvmnix.model import Verb
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.kernel_command_line import Addition, BackendParameter
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.plan import Accelerator
from mvmnix.plan.secret_reference import SecretReference, SecretSource, SecretTarget
from mvmnix.plan.share import Share
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.isolation import Isolation
from tests.unit.launch.snapshots.kept import BOOT, ID, OTHER_ID, claim_of
from tests.unit.provenance.world import NOW, World

OTHERS: Mapping[str, object] = {
    "id": OTHER_ID,
    "created": NOW + timedelta(seconds=1),
    "machine": ID,
    "plan": Digest.of(b"another"),
    "policy": Digest.of(b"another"),
    "manifest": Digest.of(b"another"),
    "image": "other",
    "files": (),
    "vcpus": 64,
    "memory_mib": 97,
    "data_mib": 16,
    "command_line": "",
    "additions": (Addition(BackendParameter.TSC, "reliable"),),
    "tsc_khz": 200_000,
    "boot": BOOT.replace("0", "1"),
    "programs": (HostFile("/a", Digest.of(b"a")),),
    "machine_type": "q35",
    "processor": "qemu64,+x2apic",
    "hello": Hello(0, "", "x" * 1024),
    "runs": False,
    "ended_with": True,
    "network": True,
    "state_bytes": 16 << 20,
    "imported": Digest.of(b"another"),
    "sealed": Digest.of(b"another"),
    "sealed_bytes": 1,
    "key": Digest.of(b"another"),
    "secrets": ("1", "~" * 256),
    "parent": "",
}


def read(data: bytes) -> SnapshotClaim:
    return from_statement(statement.parse(data))


def refused(made: Statement) -> str:
    with pytest.raises(RefusedError) as caught:
        from_statement(made)
    assert set(caught.value.codes) == {ReasonCode.STATEMENT_MALFORMED}
    return str(caught.value)


@pytest.mark.parametrize("name", [None, *OTHERS])
def test_round_trip(name: str | None) -> None:
    claim = claim_of(**{} if name is None else {name: OTHERS[name]})
    data = snapshot_statement(claim).to_bytes()
    assert read(data) == claim
    assert snapshot_statement(read(data)).to_bytes() == data


def test_each_field_makes_another_statement() -> None:
    assert set(OTHERS) == {field.name for field in fields(SnapshotClaim)}
    made = {snapshot_statement(claim_of(**{name: other})).to_bytes() for name, other in OTHERS.items()}
    assert len(made | {snapshot_statement(claim_of()).to_bytes()}) == len(OTHERS) + 1


def test_it_is_about_the_sealed_file() -> None:
    made = snapshot_statement(claim_of())
    assert made.predicate_type == PREDICATE_TYPE
    assert made.subjects == (Subject(SEALED_FILE, claim_of().sealed),)
    for subjects in ((), (Subject("other", claim_of().sealed),), (*made.subjects, Subject("b", claim_of().sealed))):
        assert "not about one file" in refused(replace(made, subjects=subjects))


def places(value: Any, *here: str | int) -> list[tuple[str | int, ...]]:
    """All that a predicate has, objects and arrays too."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*here, step) for step, _ in below] + [it for step, each in below for it in places(each, *here, step)]


WHOLE = json.loads(json.dumps(snapshot_statement(claim_of(secrets=("1",))).predicate))


def changed(place: tuple[str | int, ...], change: Any) -> Statement:
    """The statement with something done to what is at a place of its predicate: `change` gets what it is in."""
    value = json.loads(json.dumps(WHOLE))
    inside: Any = value
    for step in place[:-1]:
        inside = inside[step]
    change(inside, place[-1])
    return replace(snapshot_statement(claim_of()), predicate=value)


def is_optional(place: tuple[str | int, ...]) -> bool:
    """What may be left out: the parent, an addition, and one of several that are listed."""
    return place == ("parent",) or place[0] == "kernelCommandLineAdditions" != place[-1] or isinstance(place[-1], int)


@pytest.mark.parametrize("place", places(WHOLE), ids=str)
def test_none_of_it_may_be_missing_or_of_another_kind(place: tuple[str | int, ...]) -> None:
    inside: Any = WHOLE
    for step in place[:-1]:
        inside = inside[step]
    old = inside[place[-1]]

    def drop(it: Any, step: Any) -> None:
        del it[step]

    if not is_optional(place):
        refused(changed(place, drop))
    others: list[object] = [None, 1 if isinstance(old, bool) else True, -1, 2**53, "\0", [], {}]
    for other in others:
        if type(other) is type(old) and other in ([], {}):  # that many there may be
            continue
        refused(changed(place, lambda it, step, other=other: it.__setitem__(step, other)))


@pytest.mark.parametrize(
    "place", [(), *(it for it in places(WHOLE) if isinstance(WHOLE.get(it[0]), dict) and len(it) == 1)], ids=str
)
def test_an_unknown_field(place: tuple[str | int, ...]) -> None:
    assert "unknown" in refused(changed((*place, "more"), lambda it, step: it.__setitem__(step, "a")))


def test_a_field_that_is_there_twice() -> None:
    data = snapshot_statement(claim_of()).to_bytes()
    twice = data.replace(b'"machineEnded":false', b'"machineEnded":false,"machineEnded":true')
    assert twice != data
    with pytest.raises(RefusedError, match="listed twice"):
        read(twice)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "0123456789AB"},
        {"id": "../../../etc"},
        {"parent": "0"},
        {"machine": ""},
        {"created": NOW.replace(microsecond=1)},
        {"image": "a/b"},
        {"files": claim_of().files + claim_of().files[:1]},
        {"files": tuple(Subject(str(number), Digest.of(b"")) for number in range(17))},
        {"vcpus": 0},
        {"vcpus": 65},
        {"memory_mib": 95},
        {"memory_mib": 2**20 + 1},
        {"data_mib": -1},
        {"data_mib": 2**20 + 1},
        {"command_line": "a" * 2048},
        {"command_line": "a\nb"},
        {"tsc_khz": 1},
        {"boot": "here"},
        {"programs": claim_of().programs[:1] * 2},
        {"programs": tuple(HostFile(f"/{number}", Digest.of(b"")) for number in range(65))},
        {"programs": (HostFile("qemu", Digest.of(b"")),)},
        {"machine_type": ""},
        {"processor": "a\x1bb"},
        {"hello": Hello(2**32, "a", "b")},
        {"hello": Hello(1, "a\n", "b")},
        {"hello": Hello(1, "a", "x" * 1025)},
        {"state_bytes": 0},
        {"state_bytes": (16 << 20) + 1},
        {"sealed_bytes": 0},
        {"sealed_bytes": 2**53},
        {"secrets": ("",)},
        {"secrets": ("a",) * 65},
        {"additions": tuple(reversed(claim_of().additions))},
    ],
    ids=str,
)
def test_what_would_not_be_read_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"claim about a snapshot"):
        snapshot_statement(claim_of(**changes))


@given(st.binary(max_size=200), st.integers(0, 5000), st.integers(0, 50))
def test_any_bytes_are_a_claim_or_a_refusal(data: bytes, at: int, length: int) -> None:
    whole = snapshot_statement(claim_of()).to_bytes()
    try:
        found = read(whole[:at] + data + whole[at + length :])
    except RefusedError:
        return
    assert read(snapshot_statement(found).to_bytes()) == found


def granted(world: World, **changes: Any) -> str:
    plan = world.plan()
    return unfit(replace(plan, **changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"verbs": frozenset({Verb.EXEC})}, ""),
        ({"accelerator": Accelerator.TCG}, ""),
        ({"data": DataDisk(64, "/data")}, ""),
        ({"data": DataDisk(2**20, "/data")}, "more than the"),
        ({"accelerator": Accelerator.KVM}, "KVM"),
        ({"backend": Backend.CONTAINER, "isolation": Isolation.CONTAINER}, "backend container"),
        ({"backend": Backend.FIRECRACKER}, "backend firecracker"),
        ({"shares": (Share("/host", "/guest"),)}, "share"),
        ({"secrets": (SecretReference("token", SecretTarget.FILE, SecretSource.VARIABLE, ("TOKEN",)),)}, "secrets"),
        (
            {
                "secrets": (SecretReference("token", SecretTarget.FILE, SecretSource.VARIABLE, ("TOKEN",)),),
                "verbs": frozenset({Verb.SNAPSHOT}),
                "snapshot_with_secrets": True,
            },
            "",
        ),
        ({"network": Network(parse_rules(["https://example.org"], []))}, ""),
        ({"verbs": frozenset({Verb.EXEC, Verb.STREAM}), "ports": (80,)}, "ports"),
    ],
)
def test_which_plans_machines_can_have_a_snapshot(world: World, changes: dict[str, Any], why: str) -> None:
    found = granted(world, **changes)
    assert bool(found) == bool(why)
    assert re.search(why, found)
