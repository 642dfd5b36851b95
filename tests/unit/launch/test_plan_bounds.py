"""The bounds of numbers in a plan: the least and the most are read, and one beyond either is malformed."""

import json
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import statement
from tests.unit.provenance.world import new_world


def read(path: Path, changed: Any, *place: str) -> Plan:
    value = json.loads(plans.plan_statement(new_world(path).plan()).to_bytes())
    here = value["predicate"]
    for name in place[:-1]:
        here = here[name]
    here[place[-1]] = changed
    return plans.from_statement(statement.parse(json.dumps(value).encode()))


#: Where a number stands, its least and its most; the most where the plan's parts bound each other is left to them.
BOUNDS = [
    (("resources", "vcpus"), 1, 64),
    (("resources", "memoryMiB"), 96, 2**20),
    (("resources", "scratchMiB"), 0, 2**20),
    (("timeouts", "bootSeconds"), 1, 3600),
    (("timeouts", "wallSeconds"), 1, 2**31 - 1),
    (("workload", "user", "uid"), 1, 2**32 - 2),
    (("workload", "user", "gid"), 1, 2**32 - 2),
]


@pytest.mark.parametrize(("place", "least", "most"), BOUNDS, ids=lambda it: it[-1] if isinstance(it, tuple) else "")
def test_the_least_and_the_most(tmp_path: Path, place: tuple[str, ...], least: int, most: int) -> None:
    for good in (least, most):
        read(tmp_path, good, *place)
    for bad in (least - 1, most + 1):
        with pytest.raises(RefusedError, match=place[-1]) as refused:
            read(tmp_path, bad, *place)
        assert refused.value.codes == (ReasonCode.PLAN_MALFORMED,)


def test_the_largest_file_system(tmp_path: Path) -> None:
    verity = json.loads(plans.plan_statement(new_world(tmp_path).plan()).to_bytes())["predicate"]["image"]["verity"]
    largest = verity | {"dataBlocks": 2**40, "hashOffset": 2**52}
    read(tmp_path, largest, "image", "verity")
    with pytest.raises(RefusedError, match="dataBlocks"):
        read(tmp_path, largest | {"dataBlocks": 2**40 + 1, "hashOffset": 2**52 + 4096}, "image", "verity")


def test_how_many_words_a_command_has(tmp_path: Path) -> None:
    read(tmp_path, ["/bin/echo"] * 1024, "workload", "command")
    with pytest.raises(RefusedError, match="command"):
        read(tmp_path, ["/bin/echo"] * 1025, "workload", "command")


def test_which_ports_and_how_many(tmp_path: Path) -> None:
    def granted(*ports: int) -> Plan:
        value = json.loads(plans.plan_statement(new_world(tmp_path).plan()).to_bytes())
        value["predicate"]["access"] |= {"verbs": ["stream"], "ports": list(ports)}
        return plans.from_statement(statement.parse(json.dumps(value).encode()))

    assert granted(1, 65_535).ports == (1, 65_535)
    assert len(granted(*range(1, 65)).ports) == 64
    for bad in ((0,), (65_536,), range(1, 66)):
        with pytest.raises(RefusedError, match="ports") as refused:
            granted(*bad)
        assert set(refused.value.codes) == {ReasonCode.PLAN_MALFORMED}
