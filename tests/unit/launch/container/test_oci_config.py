"""What a container is told of a plan: its command word for word, and no privilege, whatever the plan says."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvmnix.launch.container.crun import Crun, Descriptors
from mvmnix.launch.container.oci_config import configuration
from mvmnix.model import User, Workload
from mvmnix.plan.backend import Backend
from mvmnix.provenance.isolation import Isolation
from mvmnix.sandbox.profiles.container import RUNTIME
from tests.unit.provenance.world import World, new_world

TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20)
WORKLOADS = st.builds(
    Workload,
    st.lists(TEXT, min_size=1, max_size=5).map(tuple),
    st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), TEXT, max_size=3),
    TEXT.map("/".__add__),
    st.builds(User, st.integers(1, 2**32 - 2), st.integers(1, 2**32 - 2)),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path_factory.mktemp("world"))


def told(world: World, *writable: str, **changes: Any) -> dict[str, Any]:
    plan = world.plan(backend=Backend.CONTAINER, isolation=Isolation.CONTAINER, **changes)
    value: dict[str, Any] = json.loads(configuration(plan, writable, "mvm-0123456789ab"))
    return value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(work=WORKLOADS)
def test_the_command_arrives_and_no_privilege_does(world: World, work: Workload) -> None:
    process = told(world, workload=work)["process"]
    assert tuple(process["args"]) == work.argv
    assert dict(entry.split("=", 1) for entry in process["env"]) == dict(work.environment)
    assert (process["cwd"], process["user"]) == (work.directory, {"uid": work.user.uid, "gid": work.user.gid})
    assert process["noNewPrivileges"] is True
    assert len(process["capabilities"]) == 5
    assert not any(process["capabilities"].values())


def test_it_has_nothing_of_the_hosts(world: World) -> None:
    config = told(world, "/tmp", "/var/tmp")
    assert config["root"]["readonly"] is True
    assert {mount["type"] for mount in config["mounts"]} == {"proc", "tmpfs"}, "nothing is bound"
    assert [mount["destination"] for mount in config["mounts"]] == ["/proc", "/dev", "/tmp", "/var/tmp"]
    assert {it["type"] for it in config["linux"]["namespaces"]} == {"pid", "ipc", "uts", "mount", "network", "user"}
    assert all("path" not in it for it in config["linux"]["namespaces"]), "none of them is shared"
    mapping = {"containerID": 0, "hostID": 1, "size": 65535}
    assert config["linux"]["uidMappings"] == config["linux"]["gidMappings"] == [mapping]


def test_what_the_runtime_may_is_denied_to_the_command(world: World) -> None:
    """One filter is around both of them, and a second one around the command."""
    (denied, *_) = told(world)["linux"]["seccomp"]["syscalls"]
    assert RUNTIME | {"keyctl"} <= set(denied["names"])


def test_limits_are_the_plans(world: World) -> None:
    config = told(world, "/tmp", memory_mib=96, scratch_mib=7)
    limits = {it["type"]: (it["soft"], it["hard"]) for it in config["process"]["rlimits"]}
    assert limits["RLIMIT_DATA"] == (96 << 20, 96 << 20)
    assert limits["RLIMIT_CORE"] == (0, 0)
    assert f"size={7 << 20}" in config["mounts"][2]["options"]


def test_no_text_of_a_plan_is_on_the_jails_command_line() -> None:
    """All that varies in it is numbers; the configuration comes as a descriptor."""
    runtime = Crun("/usr/bin/crun", "/usr/bin/bwrap", "/usr/bin/fsck.erofs")
    argv = runtime.container(Descriptors(10, 11, 12, 13, 14, 15, 16), 1000).argv
    other = runtime.container(Descriptors(20, 21, 22, 23, 24, 25, 26), 2000).argv
    changed = [(one, two) for one, two in zip(argv, other, strict=True) if one != two]
    assert all(one.isdecimal() and two.isdecimal() for one, two in changed)
    assert len(changed) == 8
    for program in (argv[0], argv[-1], argv[-7]):
        assert Path(program).is_absolute()
