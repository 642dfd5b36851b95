"""Rows of a provenance's verification, and how a step is taken out of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.model import Artifact
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify import authentication as authenticator
from mvmnix.provenance.verify import verify
from mvmnix.provenance.verify.verify import Verified, verify_provenance
from tests.unit.provenance.world import World


def check(
    it: World, rebuilds: tuple[bytes, ...] = (), *, artifacts: tuple[Artifact, ...] | None = None
) -> Verified[Provenance]:
    return verify_provenance(
        replace(it.evidence, rebuilds=rebuilds),
        policy=it.policy,
        artifacts=it.image.artifacts if artifacts is None else artifacts,
        image=it.image,
        now=it.now,
    )


def step_0_nothing(*_: object) -> Iterator[Any]:
    return iter(())


def take_out(step: int, patch: pytest.MonkeyPatch) -> None:
    """Take the numbered step out of the verifier. Steps that make the next noun are replaced by ones that trust."""
    for module in (authenticator, verify):
        kept = tuple(it for it in module.STEPS if not it.__name__.startswith(f"step_{step}_"))
        if len(kept) < len(module.STEPS):
            patch.setattr(module, "STEPS", kept)
            return
    assert step == 7
    patch.setattr(verify, "step_7_predicate_type", step_0_nothing)
