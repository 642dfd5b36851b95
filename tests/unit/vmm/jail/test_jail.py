"""Sandboxes as a start sees them: where one can't be had nothing starts, and whatever was made for it is let go of."""

import gc
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.launch.gate.nonces import Nonces
from mvmnix.launch.gate.replay import nonce_of
from mvmnix.launch.runtime.start import start_machine
from mvmnix.plan.limits import PlanLimits
from mvmnix.sandbox import landlock, seccomp
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.system.control_groups import ControlGroups, Group, Parent
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.jail import sandbox as making
from mvmnix.vmm.jail.jail import BubblewrapJail
from mvmnix.vmm.jail.sandbox import BubblewrapSandbox
from mvmnix.vmm.jail.sandbox import Limits as Limits_
from mvmnix.vmm.port import Acceleration, Invocation, LaunchSpec
from mvmnix.vmm.process import JailedProcess
from tests.support.forks import result_of
from tests.unit.launch.house import house

PROGRAM = "/usr/bin/sleep"


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[tuple[Directory, Directory]]:
    with Directory.create(str(tmp_path / "cells")) as leases, Directory.create(str(tmp_path / "cache")) as cache:
        yield leases, cache


@pytest.fixture
def jail(directories: tuple[Directory, Directory]) -> BubblewrapJail:
    leases, cache = directories
    return BubblewrapJail(UidPool(leases), cache)


def sandbox(jail: BubblewrapJail) -> BubblewrapSandbox:
    spec = LaunchSpec(0, 0, None, 0, 0, 0, 1, 64, "", Acceleration.TCG, 1)
    return jail.sandbox((), spec, Invocation((PROGRAM, "1"), ()))


def open_files() -> list[str]:
    gc.collect()  # what tests before this one left to it is not ours
    return os.listdir("/proc/self/fd")  # noqa: PTH208


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [(making, "BUBBLEWRAP", "bubblewrap"), (seccomp, "LIBRARY", "libseccomp2")],
    ids=["bubblewrap", "libseccomp"],
)
def test_without_what_makes_a_sandbox_nothing_starts(
    jail: BubblewrapJail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, package: str
) -> None:
    missing = replace(getattr(module, name), paths=("/proc/nonexistent",))
    monkeypatch.setattr(module, name, missing)
    seccomp._library.cache_clear()
    seccomp.program.cache_clear()
    with house(tmp_path / "house") as here, here.plan() as plan:
        host = replace(here.host(), jail=jail)
        before = open_files()
        with pytest.raises(MvmnixError, match=f"{missing.what} is not installed") as caught:
            start_machine(plan, host)
        assert caught.value.hint == f"apt-get install {package}"
        assert open_files() == before
        assert here.log() == []
        assert host.machines.names() == ()
        assert Nonces(here.directory("replay")).find(nonce_of(plan.plan)) is None, "it is spent"


def test_a_limit_that_nothing_here_enforces_is_refused(
    jail: BubblewrapJail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ControlGroups, "find", lambda: ControlGroups(()))
    with house(tmp_path / "house") as here, here.plan(limits=PlanLimits(cpu_weight=1)) as plan:
        host = replace(here.host(), jail=jail)
        before = open_files()
        with pytest.raises(RefusedError) as caught:
            start_machine(plan, host)
        assert caught.value.codes == (ReasonCode.LIMIT_UNAVAILABLE,)
        assert open_files() == before
        assert [record.reasons for record in here.log()] == [(ReasonCode.LIMIT_UNAVAILABLE,)]
        assert host.machines.names() == ()


@pytest.mark.parametrize(
    ("percent", "weight", "processors"), [(None, None, 1.5), (50, None, 0.5), (6450, 7, 1.5), (None, 7, 1.5)]
)
def test_processor_time_is_the_plan_s(percent: int | None, weight: int | None, processors: float) -> None:
    spec = LaunchSpec(0, 0, None, 0, 0, 0, 1, 64, "", Acceleration.TCG, 1, None, percent, weight)
    limits = Limits_.of(spec, Invocation((PROGRAM,), ()))
    assert (limits.group.processors, limits.group.weight) == (processors, weight)
    assert limits.demanded is ((percent, weight) != (None, None))


def test_nothing_of_a_sandbox_is_left(jail: BubblewrapJail, directories: tuple[Directory, Directory]) -> None:
    before = open_files()
    it = sandbox(jail)
    assert directories[0].names() == ("0.json", "0.lock")
    it.release()
    it.release()
    assert directories[0].names() == ()
    assert open_files() == before


def test_a_sandbox_that_can_not_be_entered_says_why(jail: BubblewrapJail, monkeypatch: pytest.MonkeyPatch) -> None:
    it = sandbox(jail)

    def refused(_group: object) -> None:
        raise PermissionError(13, "Permission denied", "cgroup.procs")

    monkeypatch.setattr(Group, "join", refused)
    process = JailedProcess.spawn(Invocation((PROGRAM, "1"), ()), (), it)
    process.wait()
    assert process.ended
    process.close()
    (words,) = process.last_words
    assert "can't be entered" in words
    assert "cgroup.procs" in words


def test_control_groups_that_can_not_be_made_are_told(
    jail: BubblewrapJail, directories: tuple[Directory, Directory], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ControlGroups((Parent("/proc/nonexistent", 1, ()),))
    monkeypatch.setattr(ControlGroups, "find", lambda: gone)
    with pytest.raises(MvmnixError, match=r"/proc/nonexistent/mvmnix-0-\w+ can't be made") as caught:
        sandbox(jail)
    assert "mvm doctor" in caught.value.hint
    assert directories[0].names() == ()


def test_landlock_is_left_out_where_the_kernel_has_none(jail: BubblewrapJail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    it = sandbox(jail)
    words = it.command((PROGRAM, "1"))
    it.release()
    assert words[-3:] == ("--", PROGRAM, "1")
    assert not [word for word in words if "setpriv" in word or "landlock" in word]


def test_landlock_rules_name_files_and_no_directory(jail: BubblewrapJail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 7)
    it = sandbox(jail)
    words = it.command((PROGRAM, "1"))
    it.release()
    rules = [words[at + 1].split(":") for at, word in enumerate(words) if word == "--landlock-rule"]
    assert all(Path(path).exists() and not Path(path).is_dir() for _, _, path in rules)
    executed = [path for _, access, path in rules if "execute" in access]
    assert [os.path.basename(path) for path in executed] == ["sleep", "ld-linux-x86-64.so.2"]  # noqa: PTH119
    assert [path for _, access, path in rules if "write" in access] == ["/dev/null"]


@pytest.mark.parametrize(
    ("value", "found"), [(1 << 40, 1 << 30), (resource.RLIM_INFINITY, 1 << 30), (1 << 29, 1 << 29)], ids=str
)
def test_a_limit_that_a_caller_has_is_not_raised(value: int, found: int) -> None:
    """It bounds whatever the caller starts, as in a batch job."""

    def enter() -> tuple[int, int]:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        making.lower_limit(resource.RLIMIT_AS, value)
        return resource.getrlimit(resource.RLIMIT_AS)

    assert result_of(enter) == (found, found)


def test_a_limit_is_set_where_there_is_none() -> None:
    def enter() -> tuple[int, int]:
        making.lower_limit(resource.RLIMIT_CPU, 1 << 30)
        return resource.getrlimit(resource.RLIMIT_CPU)

    assert result_of(enter) == (1 << 30, 1 << 30)
