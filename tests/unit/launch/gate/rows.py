"""Rows of a plan's verification, and the refusal that each is to have."""

import gc
from pathlib import Path

import pytest

from mvmnix.errors import RefusedError
from mvmnix.launch.gate.verify import VerifiedPlan
from tests.unit.provenance.world import World


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
