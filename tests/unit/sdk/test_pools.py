"""Pools from Python: set, listed, claimed by a sandbox, and removed; in both faces."""

import pytest

from mvmnix.sdk import errors
from tests.unit.cli.station import Station
from tests.unit.launcher.pooling import launcher, pooled, states
from tests.unit.sdk.faces import Face, on_both

__all__ = ["launcher", "pooled"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("launcher"),
]


@on_both
async def test_a_pool_is_set_listed_claimed_and_removed(face: Face, pooled: Station) -> None:
    flake = pooled.flake(verbs=["exec"])
    made = await face.Pool.set(flake, 2)
    assert (made.image, made.count, made.waiting, made.why) == ("hello", 2, 2, "")
    assert [(it.image, it.count) for it in await face.Pool.list()] == [("hello", 2)]
    async with face.Sandbox.run(flake) as box:
        begun = await face.Audit.events(box.id, last=None)
    assert ["waited" in each.record.digests for each in begun if each.record.kind == "start"] == [True]
    with pytest.raises(errors.NotFound, match="there is no pool of 'nosuch'"):
        await face.Pool.remove(["hello", "nosuch"])
    with pytest.raises(errors.Error, match="is not a directory") as found:
        await face.Pool.set("hello", 1)
    assert found.value.hint.startswith("did you mean image:hello? ")
    await face.Pool.remove([flake])
    assert await face.Pool.list() == ()


@on_both
async def test_a_pool_that_cannot_be(face: Face, pooled: Station) -> None:
    flake = pooled.flake(verbs=["exec"])
    for count, shape, name in ((0, {}, "count"), (33, {}, "count"), (1, {"vcpus": 0}, "vcpus")):
        with pytest.raises(errors.InvalidArgument, match=f"{name} is "):
            await face.Pool.set(flake, count, **shape)
    with pytest.raises(errors.InvalidArgument, match="memory_mib is "):
        await face.Pool.set(flake, 1, memory_mib=1)
    assert "waiting" not in states(pooled)
