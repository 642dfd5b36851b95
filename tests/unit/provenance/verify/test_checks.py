"""Steps 9 to 16 name what they expected, and what is there."""

from dataclasses import replace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.provenance.verify.verify import verify_provenance
from tests.unit.provenance.world import LOCK, World


def whys(it: World, **fields: Any) -> list[str]:
    told = {"artifacts": it.image.artifacts} | fields
    with pytest.raises(RefusedError) as caught:
        verify_provenance(it.evidence, policy=it.policy, image=it.image, now=it.now, **told)
    return [reason.why for reason in caught.value.reasons]


def test_which_lock_was_built_from(world: World) -> None:
    digest = Digest.of(LOCK)
    for data, told in ((None, "no flake.lock"), (b"{}", f"flake.lock {Digest.of(b'{}')}")):
        world.lock = data
        assert f"the build used flake.lock {digest}; what came with it is {told}" in whys(world)


def test_which_files_it_is_about(world: World) -> None:
    first, *rest = world.image.artifacts
    renamed = replace(first, name="other")
    assert {
        f"for {first.name} it names {first.digest}, the file has no business here",
        f"for other it names nothing, the file has {first.digest}",
    } <= set(whys(world, artifacts=(renamed, *rest)))


def test_what_manifest_and_file_say(world: World) -> None:
    first, *rest = world.image.artifacts
    larger = replace(first, size=first.size + 1)
    assert whys(world, artifacts=(larger, *rest)) == [
        f"the manifest says {first.digest}, {first.size} bytes",
        f"the file has {first.digest}, {first.size + 1} bytes",
    ]
