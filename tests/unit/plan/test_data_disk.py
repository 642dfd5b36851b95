"""What a plan may say of a data disk: bounds, places, what it doesn't go together with; and what the agent is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.launch.agent.requests import ENTROPY_BYTES, GuestConfig
from mvmnix.model import User, Verb
from mvmnix.plan import plan as plans
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.plan import Accelerator
from mvmnix.plan.share import Share
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.isolation import Isolation
from mvmnix.vmm.jail.sandbox import Limits
from mvmnix.vmm.port import Acceleration, DataAttachment, Invocation, LaunchSpec
from tests.unit.launch.host_frames import read_config
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import World, plan_refusal

DISK = DataDisk(32, "/tmp/data")
CONFIG = GuestConfig("mvm", 1, bytes(ENTROPY_BYTES), 0, User(1, 1), verbs=frozenset({Verb.EXEC}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return worlds.new_world(tmp_path)


@pytest.mark.parametrize("disk", [DataDisk(16, "/d"), DataDisk(2**20, "/data/of mine"), DISK])
def test_a_plan_says_it_and_is_read_back(world: World, disk: DataDisk) -> None:
    plan = world.plan(data=disk)
    written = plans.plan_statement(plan).to_bytes()
    assert plans.from_statement(statement.parse(written)) == plan
    assert plans.plan_statement(plan).predicate["data"] == {"sizeMiB": disk.size_mib, "path": disk.path}


def test_it_stands_there_only_where_there_is_one(world: World) -> None:
    assert "data" not in plans.plan_statement(world.plan()).predicate


@pytest.mark.parametrize("size", [0, -16, 15, 17, 2**20 + 16])
def test_a_size_that_is_none(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        DataDisk(size, "/tmp/data")


@pytest.mark.parametrize(
    "path", ["", "/", "data", "/tmp/../etc", "/tmp/", "//tmp", "/dev/x", "/proc", "/run/d", "/a\nb", "/" + "x" * 1024]
)
def test_a_place_that_is_none(path: str) -> None:
    with pytest.raises(ValueError, match=r"path|place"):
        DataDisk(16, path)


@pytest.mark.parametrize(
    "data",
    [
        *({}, [], None, "32:/tmp/data", {"sizeMiB": 32}, {"path": "/tmp/data"}, {"sizeMiB": 17, "path": "/d"}),
        *({"sizeMiB": "32", "path": "/d"}, {"sizeMiB": True, "path": "/d"}, {"sizeMiB": 16.0, "path": "/d"}),
        *({"sizeMiB": 32, "path": "/dev"}, {"sizeMiB": 32, "path": "/d", "key": "x"}, {"sizeMiB": 2**21, "path": "/d"}),
    ],
)
def test_a_plan_that_says_anything_else_is_malformed(world: World, data: object) -> None:
    assert set(plan_refusal(world.plan(), data=data).codes) == {ReasonCode.PLAN_MALFORMED}


@pytest.mark.parametrize(
    ("backend", "isolation", "accelerator"),
    [
        ("container", "container: not a microVM", "any"),
        ("firecracker", "microvm", "kvm"),
        ("cloud-hypervisor", "microvm", "any"),
    ],
)
def test_a_backend_that_has_none_is_refused(world: World, backend: str, isolation: str, accelerator: str) -> None:
    """Without the disk the same plan is one."""
    of_backend = {
        "backend": Backend(backend),
        "isolation": Isolation(isolation),
        "accelerator": Accelerator(accelerator),
    }
    plan = world.plan(**of_backend)
    plans.from_statement(plans.plan_statement(plan))
    refused = plan_refusal(plan, data=DISK.shown())
    assert refused.codes == (ReasonCode.PLAN_MALFORMED,)
    assert f"with the backend {backend} there is no data disk" in refused.reasons[0].why


@pytest.mark.parametrize("place", ["/tmp/data", "/tmp/data/in", "/tmp"])
def test_nothing_is_shared_over_it(world: World, place: str) -> None:
    with pytest.raises(ValueError, match="over one another"):
        world.plan(data=DISK, shares=(Share("/srv", place),))
    assert world.plan(data=DISK, shares=(Share("/srv", "/tmp/data2"),)).data == DISK


def test_the_agent_is_told_its_place_behind_the_limits() -> None:
    told = replace(CONFIG, data="/tmp/data", tasks=7)
    assert read_config(told.encode()) == told
    assert told.encode().endswith(b"\0\0\0\0\0\0\0\7" + b"\0\0\0\x09/tmp/data")
    assert read_config(CONFIG.encode()).data == ""


@pytest.mark.parametrize("place", ["/", "data", "/tmp/../data", "/tmp/"])
def test_the_agent_is_told_of_a_clean_path_alone(place: str) -> None:
    with pytest.raises(ValueError, match="clean"):
        replace(CONFIG, data=place)


@pytest.mark.parametrize(("data", "written"), [(None, 0), (DataAttachment(7, 8, 9, 16 << 20), 16 << 20)])
def test_the_hypervisor_writes_no_file_beyond_it(data: DataAttachment | None, written: int) -> None:
    spec = LaunchSpec(1, 2, 3, 4, 5, 6, 2, 1024, "quiet", Acceleration.TCG, 2_000_000, data=data)
    assert Limits.of(spec, Invocation(("/qemu",), ())).written == written
