"""Which callers are handed on to a machine that waits: none whose start can't be of its kind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.launch.control.codec import encode
from mvmnix.launch.control.pool_messages import pool_name
from mvmnix.launch.control.start_messages import Mode, StartRequest, parse_request
from mvmnix.launcher.claims import hand_over
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.plan import Accelerator, Start
from mvmnix.plan.share import Share
from mvmnix.system.store import sealed_memory
from tests.unit.provenance.world import World, new_world

REQUEST = StartRequest(mode=Mode.DETACHED)


class Asked:
    """Pools that take everybody, and remember what was claimed."""

    def __init__(self) -> None:
        self.claims: list[tuple[bytes, bytes, tuple[int, ...]]] = []

    def claim(self, said: bytes, message: bytes, descriptors: tuple[int, ...]) -> bool:
        self.claims.append((said, message, descriptors))
        return True


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


@contextmanager
def handed(data: bytes) -> Iterator[dict[str, int]]:
    fd = sealed_memory(data, name="test")
    try:
        yield {name: number for number, name in enumerate(REQUEST.descriptors)} | {"plan": fd}
    finally:
        os.close(fd)


def claims(request: StartRequest, data: bytes) -> list[tuple[bytes, bytes, tuple[int, ...]]]:
    asked: Any = Asked()
    with handed(data) as found:
        assert hand_over(asked, request, found, 99) is bool(asked.claims)
        assert all(claim[2] == (99, *(found[name] for name in request.descriptors)) for claim in asked.claims)
    return list(asked.claims)


def test_a_start_of_an_image_is_a_claim_of_its_pool(world: World) -> None:
    world.sign_plan()
    ((said, message, _),) = claims(REQUEST, world.plan_bundle)
    assert (said, parse_request(message)) == (pool_name(world.plan()), REQUEST)
    assert message == encode(REQUEST)


def test_a_pool_is_known_by_image_and_shape_alone(world: World) -> None:
    own = pool_name(world.plan())
    assert pool_name(replace(world.plan(), labels={"a": "b"}, scratch_mib=17, nonce="0" * 32)) == own
    shapes: tuple[dict[str, Any], ...] = ({"vcpus": 7}, {"memory_mib": 777}, {"command_line": "x"}, {"image": "other"})
    for changes in (*shapes, {"subjects": ()}):
        assert pool_name(replace(world.plan(), **changes)) != own


@pytest.mark.parametrize(
    "request_",
    [
        StartRequest(mode=Mode.CREATED),
        StartRequest(mode=Mode.SAVED),
        StartRequest(mode=Mode.DETACHED, created="0" * 12),
    ],
    ids=["created", "saved", "start of a created one"],
)
def test_what_is_not_started_now_claims_nothing(world: World, request_: StartRequest) -> None:
    world.sign_plan()
    assert claims(request_, world.plan_bundle) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"start": Start.COLD},
        {"shares": (Share("/srv", "/srv"),)},
        {"data": DataDisk(16, "/data")},
        {"accelerator": Accelerator.KVM},
        {"limits": PlanLimits(cpu_percent=50)},
        {"limits": PlanLimits(cpu_weight=50)},
    ],
    ids=["cold", "shares", "disk", "kvm", "percent", "weight"],
)
def test_a_plan_that_no_waiting_machine_can_be_for_claims_nothing(world: World, changes: dict[str, Any]) -> None:
    world.sign_plan(**changes)
    assert claims(REQUEST, world.plan_bundle) == []


@pytest.mark.parametrize("data", [b"", b"{}", b"not a plan", b"\xff" * 100, b'{"dsseEnvelope":{}}'])
def test_what_is_no_plan_claims_nothing_and_is_refused_where_it_is_verified(data: bytes) -> None:
    assert claims(REQUEST, data or b" ") == []


def test_an_unsealed_plan_claims_nothing(world: World) -> None:
    world.sign_plan()
    fd = os.memfd_create("test")
    os.write(fd, world.plan_bundle)
    asked: Any = Asked()
    assert not hand_over(asked, REQUEST, dict.fromkeys(REQUEST.descriptors, fd), 99)
    os.close(fd)
