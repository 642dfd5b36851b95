"""Snapshots from Python: taken, restored, forked, cooled and removed; in both faces."""

import asyncio

import pytest

from mvmnix import aio
from mvmnix.sdk import errors
from tests.patience import SHORT
from tests.unit.cli.plans import signed
from tests.unit.cli.station import Station
from tests.unit.sdk.faces import Face, on_both, seen

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

VERBS = ["exec", "snapshot"]


@pytest.fixture
def saving(settled: Station) -> str:
    """A flake whose image offers snapshots, of a user whose hypervisor saves guests."""
    settled.saves_guests()
    return settled.flake(verbs=VERBS)


def running(station: Station) -> set[str]:
    return {it["id"] for it in station.mvm("ps", "--json").answer("machines") if it["state"] == "running"}


@on_both
async def test_one_is_taken_listed_restored_and_removed(face: Face, saving: str, settled: Station) -> None:
    async with face.Sandbox.run(saving, verbs=VERBS) as box:
        taken = await box.snapshot()
        assert (taken.machine, taken.image, taken.machine_ended, taken.size > 0) == (box.id, "hello", False, True)
        assert [each.id for each in await face.Snapshot.list()] == [taken.id]
        async with face.Sandbox.restore(taken.id, name="other") as other:
            assert running(settled) == {box.id, other.id}
            assert (await other.exec(["true"])).exit_code == 0
            assert other.verbs == {"exec", "snapshot"}
        assert running(settled) == {box.id}
        await face.Snapshot.remove(taken.id)
        assert await face.Snapshot.list() == ()
        for gone in (face.Snapshot.remove(taken.id), face.Sandbox.restore(taken.id)):
            with pytest.raises(errors.NotFound, match="there is no snapshot"):
                await gone


@on_both
async def test_a_cooled_one_goes_on(face: Face, saving: str, settled: Station) -> None:
    async with face.Sandbox.run(saving, verbs=VERBS) as box:
        cooled = await box.cool()
        assert (await box.wait()).reason == "cooled"
        assert (cooled.machine_ended, running(settled)) == (True, set())
        with pytest.raises(errors.NotRunning):
            await box.snapshot()
    assert await face.Sandbox.list() == ()
    assert [each.state for each in await face.Sandbox.list(ended=True)] == ["cold"]
    async with face.Sandbox.restore(cooled.id) as other:
        assert (await other.exec(["true"])).exit_code == 0
        states = {each.id: each.state for each in await face.Sandbox.list(ended=True)}
        assert states == {cooled.machine: "ended", other.id: "running"}


@on_both
async def test_a_fork_has_an_outcome_for_each(face: Face, saving: str, settled: Station) -> None:
    async with face.Sandbox.run(saving, verbs=VERBS) as box:
        made = await box.fork(2)
        assert running(settled) == {box.id, *(each.id for each in made)}
        assert await face.Snapshot.list() == ()
        for each in made:
            async with seen(each) as other:
                assert (await other.exec(["true"])).exit_code == 0
        assert running(settled) == {box.id}
        with pytest.raises(errors.InvalidArgument, match="count is "):
            await box.fork(0)


@on_both
async def test_what_is_for_one_machine_is_not_forked(face: Face, saving: str, settled: Station) -> None:
    plan = signed(settled, "--single-use", "--verb", "snapshot", reference=saving, command=("linger",))
    async with face.Sandbox.launch(plan) as box:
        made = await box.fork(2)
        assert [type(each) for each in made] == [errors.PolicyRefused] * 2
        assert [each.reasons[0].code for each in made] == ["snapshot-forbidden"] * 2
        assert running(settled) == {box.id}


@on_both
async def test_a_plan_that_does_not_grant_it(face: Face, saving: str) -> None:
    async with face.Sandbox.run(saving, verbs=["exec"]) as box:
        for call in (box.snapshot, box.cool, lambda: box.fork(1)):
            with pytest.raises(errors.NotGranted, match="snapshot: refused"):
                await call()


async def count_is(count: int) -> None:
    """Wait until so many machines run."""
    while len(await aio.Sandbox.list()) != count:  # noqa: ASYNC110 - other processes have them
        await asyncio.sleep(SHORT)


async def count_is_above(count: int) -> None:
    """Wait until more machines run: of a fork several start at once."""
    while len(await aio.Sandbox.list()) <= count:  # noqa: ASYNC110 - other processes have them
        await asyncio.sleep(SHORT)


def test_a_fork_that_is_cancelled_leaves_no_machine_and_no_snapshot(saving: str) -> None:
    async def cancelled() -> None:
        async with aio.Sandbox.run(saving, verbs=VERBS) as box:
            forking = asyncio.create_task(box.fork(9))
            await count_is_above(2)
            forking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await forking
            await count_is(1)
            assert await aio.Snapshot.list() == ()

    asyncio.run(cancelled())
