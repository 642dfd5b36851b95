"""Rows of a plan's verification: how each changes a world, and the refusal that it is to have."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import RefusedError
from mvmnix.launch.gate.verify import VerifiedPlan
from tests.policies import effective
from tests.support.rows import Row
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import World

type Change = Callable[[World], object]


def label(row: Row[World]) -> str:
    return f"{row.step}-{row.name}"


def both(*changes: Change) -> Change:
    return lambda it: [change(it) for change in changes]


def bundle(change: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of the plan's bundle."""
    return lambda it: setattr(it, "plan_bundle", change(it.plan_bundle))


def policy(old: str, new: str, **fields: Any) -> Change:
    """Put another policy in force, with a plan that was made under it."""

    def apply(it: World) -> None:
        text = worlds.trust().decode()
        assert old in text
        it.policy = effective(None, text.replace(old, new).encode())
        it.sign_plan(**fields)

    return apply


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def check(it: World, directory: Path) -> VerifiedPlan:
    return it.verified(directory)


def refusal(it: World, directory: Path) -> RefusedError:
    gc.disable()  # what other tests left behind is not to be closed just now, nor what this refusal might leave
    try:
        before = descriptors()
        with pytest.raises(RefusedError) as caught:
            check(it, directory)
        assert descriptors() == before, "a refusal leaves nothing open"
    finally:
        gc.enable()
    return caught.value
