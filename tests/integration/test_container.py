"""A container is run by a real crun from a plan that calls it one, sees nothing of the host, and leaves nothing."""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import GuestTimeoutError, ReasonCode, RefusedError
from mvmnix.launch.agent.endpoints import PipeSink
from mvmnix.launch.container.crun import Crun
from mvmnix.launch.container.oci_config import ROOT
from mvmnix.launch.container.run import run_container
from mvmnix.launch.runtime.finalize import MachineFailedError
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines.ending import EndReason
from mvmnix.model import User, Workload
from mvmnix.plan.backend import Backend
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.slsa.provenance import Variation
from mvmnix.sandbox import trusted_executables
from tests.integration.container_house import BLOCK, Containers, ignored, image, jails, left_over, world_of
from tests.patience import POLL, scaled, until

pytestmark = pytest.mark.integration

#: Modules, kexec and I/O ports can be left out of a kernel; the others came with Linux 6.8 and later.
KERNELS_MAY_LACK = {
    *("init_module", "delete_module", "finit_module", "kexec_load", "kexec_file_load", "iopl"),
    *("statmount", "listmount", "lsm_set_self_attr", "setxattrat", "open_tree_attr"),
}
CONTAINER: dict[str, Any] = {"backend": Backend.CONTAINER, "isolation": Isolation.CONTAINER}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def here(tmp_path: Path, data: bytes) -> Containers:
    return Containers(tmp_path / "house", world_of(tmp_path, data))


def test_it_runs_and_everything_calls_it_what_it_is(here: Containers) -> None:
    finished, said = here.run("echo", stdin=b"in and out")
    assert (finished.exit_code, said, finished.ended.reason) == (0, "in and out", EndReason.GUEST_EXIT)
    assert here.house.notices[0].startswith("container: not a microVM")
    begin, end = here.house.log()
    assert (begin.kind, begin.backend, end.kind) == (RecordKind.START, "container: not a microVM", RecordKind.END)
    (receipt,) = here.house.receipts()
    assert receipt.observed.backend is Backend.CONTAINER
    assert receipt.observed.hypervisor.path == "/usr/bin/crun"
    assert [Path(file.path).name for file in receipt.observed.firmware] == ["bwrap", "fsck.erofs"]
    assert not left_over()


def test_the_exit_status_is_the_commands_own(here: Containers) -> None:
    finished, _ = here.run("exit", "7")
    assert finished.exit_code == 7
    assert here.house.log()[-1].exit_code == 7


def test_a_command_that_the_image_lacks(here: Containers) -> None:
    with here.house.plan("/bin/nothing", **CONTAINER) as plan:
        finished = run_container(plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert finished.exit_code == 127
    assert "`/bin/nothing` not found" in here.house.notices[-1]
    assert here.house.log()[-1].exit_code == 127


def test_what_crun_complains_about_is_not_the_commands_word(here: Containers) -> None:
    work = Workload(("/bin/probe", "id"), {}, "/bin/probe", User(1, 1))
    here.house.world.sign_plan(workload=work, **CONTAINER)
    with here.house.verified() as plan, pytest.raises(MachineFailedError, match="Not a directory"):
        run_container(plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert here.house.receipts()[0].observed.reason is EndReason.HYPERVISOR_DIED


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("id",), "1000 1000 1\n"),
        (("write", "/x"), "Read-only file system\n"),
        (("write", "/tmp/x"), "done\n"),
        (("write", "/proc/sys/kernel/hostname"), "Permission denied\n"),
        (("cat", "/etc/shadow"), "No such file or directory\n"),
        (("cat", "/bundle/config.json"), "No such file or directory\n"),
        (("unshare",), "Operation not permitted\n"),
        (("mount",), "Operation not permitted\n"),
        (("chroot",), "Operation not permitted\n"),
    ],
)
def test_what_it_may_and_may_not(here: Containers, argv: tuple[str, ...], said: str) -> None:
    assert here.run(*argv)[1] == said


def test_it_has_no_capability_and_a_filter(here: Containers) -> None:
    fields = dict(
        line.split(":\t", 1) for line in here.run("cat", "/proc/self/status")[1].splitlines() if ":\t" in line
    )
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_its_users_are_nobody_s_and_its_network_leads_nowhere(here: Containers) -> None:
    assert here.run("cat", "/proc/self/uid_map")[1].split() == ["0", "1", "65535"], "user 0 outside of it runs it"
    devices = here.run("cat", "/proc/self/net/dev")[1].splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    assert here.run("cat", "/proc/self/net/route")[1].count("\n") == 1


def test_a_runtime_that_was_taken_over_asks_in_vain(here: Containers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's own program runs in the place of crun, as root of its namespace."""
    crun = replace(Crun.find(), executable=f"{ROOT}/bin/probe")
    monkeypatch.setattr(Crun, "find", lambda: crun)
    monkeypatch.setattr(trusted_executables, "digest", lambda _: Digest.of(b""))
    tried = judged(here.run("id")[1])
    assert set(tried.values()) == {"held"}, tried
    assert len(tried) >= 30


@pytest.mark.root("the kernel looks at what root asks for")
def test_what_such_a_runtime_asks_for_is_looked_at_outside(tmp_path: Path) -> None:
    """So that a line that says `held` means something."""
    image(tmp_path)
    argv = [str(tmp_path / "tree/bin/probe"), "taken over"]
    outside = judged(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert len(outside) >= 30
    assert {name for name, word in outside.items() if word == "held"} <= KERNELS_MAY_LACK


def judged(said: str) -> dict[str, str]:
    return dict(line.rsplit(": ", 1) for line in said.splitlines())


def test_so_many_processes_and_no_more(here: Containers) -> None:
    """Its first one counts too, and so does what runs it, and what runs in containers beside it."""
    assert int(here.run("fork")[1]) in range(200, 256)
    assert not left_over()


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": Workload(("/bin/probe",), {}, "/", User(65_535, 1))},
        {"workload": Workload(("/bin/probe",), {}, "/", User(1, 65_535))},
        {"variation": Variation("other", 0, "natural")},
        {"limits": PlanLimits(tasks=3)},
    ],
)
def test_what_a_container_cannot_be(here: Containers, changes: dict[str, Any]) -> None:
    here.house.world.sign_plan(**CONTAINER, **changes)
    with here.house.verified() as plan, pytest.raises(RefusedError) as caught:
        run_container(plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert caught.value.codes == (ReasonCode.PLAN_MISMATCH,)


def test_its_filter_is_not_the_strict_one(here: Containers) -> None:
    here.house.world.change_manifest(lambda value: value.update(systemCalls="strict"))
    here.house.world.sign_provenance()
    here.house.world.sign_plan(**CONTAINER)
    with (
        here.house.verified() as plan,
        pytest.raises(RefusedError, match="a filter of system calls of its own") as caught,
    ):
        run_container(plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert caught.value.codes == (ReasonCode.PLAN_MISMATCH,)


def test_it_gets_no_secrets(here: Containers) -> None:
    """Not in this version; and the reference is never followed."""
    confided = (SecretReference.parse("A=env:CONFIDED_NOT_SET", SecretTarget.VARIABLE),)
    with here.house.plan("/bin/probe", secrets=confided, **CONTAINER) as plan, pytest.raises(RefusedError) as caught:
        run_container(plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert caught.value.codes == (ReasonCode.SECRET_UNAVAILABLE,)
    assert "a container gets no secrets" in str(caught.value)


def test_it_is_never_started_as_a_machine(here: Containers) -> None:
    with here.plan("id") as plan, pytest.raises(RefusedError) as caught:
        start_machine(plan, here.host())
    assert caught.value.codes == (ReasonCode.BACKEND_UNAVAILABLE,)


def test_what_it_is_handed_stays_its_owners(here: Containers, tmp_path: Path) -> None:
    """crun gives the standard streams that it finds to the container's user."""
    path = tmp_path / "input"
    path.write_bytes(b"mine")
    before = path.stat(), Path("/dev/null").stat()
    with path.open("rb") as file:
        assert here.run("echo", stdin=file.fileno())[1] == "mine"
    for then, now in zip(before, (path.stat(), Path("/dev/null").stat()), strict=True):
        assert (then.st_uid, then.st_gid, then.st_mode) == (now.st_uid, now.st_gid, now.st_mode)


def test_much_output_goes_to_a_slow_reader_whole(here: Containers) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    host = here.host()
    count = 0

    def take() -> None:
        nonlocal count
        count += len(os.read(ours, 10_000))

    host.loop.watch(ours, read=take)
    with here.plan("flood", "40") as plan:
        run_container(plan, host, stdout=PipeSink(host.loop, theirs), stderr=lambda _: None, started=ignored)
    os.close(theirs)
    while chunk := os.read(ours, 65536):
        count += len(chunk)
    os.close(ours)
    assert count == 40 * 65536


def test_one_that_takes_too_long(here: Containers) -> None:
    with pytest.raises(GuestTimeoutError):
        here.run("sleep", seconds=scaled(2))
    assert here.house.receipts()[0].observed.reason is EndReason.TIMEOUT
    wait_for(lambda: not left_over())


def test_a_jail_that_is_killed_takes_everything_with_it(here: Containers) -> None:
    host = here.host()

    def kill() -> None:
        if any(line.startswith("/bin/probe") for line in left_over()):
            os.kill(min(jails()), 9)
        else:
            host.loop.after(POLL, kill)

    host.loop.after(0, kill)
    with here.plan("sleep") as plan, pytest.raises(MachineFailedError):
        run_container(plan, host, stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert here.house.receipts()[0].observed.reason is EndReason.HYPERVISOR_DIED
    wait_for(lambda: not left_over())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_supervisor_that_is_killed_takes_everything_with_it(here: Containers, number: int) -> None:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with here.plan("echo") as plan:
                run_container(
                    plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, stdin=ours, started=ignored
                )
        finally:
            os._exit(1)
    wait_for(lambda: any(line.startswith("/bin/probe") for line in left_over()))
    os.kill(child, number)
    os.waitpid(child, 0)
    wait_for(lambda: not left_over())
    os.close(ours)
    os.close(theirs)


def wait_for(holds: Callable[[], bool]) -> None:
    """The kernel takes a process namespace down after its first process; nothing here depends on how soon."""
    until(holds)


def test_a_changed_byte_anywhere_is_refused_before_anything_runs(here: Containers) -> None:
    """No dm-verity watches a container, so the whole image is hashed."""
    data = bytearray(here.house.world.rootfs)
    data[BLOCK * 2 + 17] ^= 1
    with here.plan("id") as plan:
        here.house.world.rootfs = bytes(data)
        os.pwrite(os.open(here.house.path / "rootfs", os.O_RDWR), bytes(data), 0)
        with pytest.raises(RefusedError) as caught:
            run_container(plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert caught.value.codes == (ReasonCode.ARTIFACT_MISMATCH,)
    assert [record.kind for record in here.house.log()] == [RecordKind.REFUSAL]


def test_what_is_no_file_system_ends_in_the_jail(tmp_path: Path) -> None:
    here = Containers(tmp_path / "house", world_of(tmp_path, os.urandom(64 * BLOCK)))
    with pytest.raises(MachineFailedError, match="erofs"):
        here.run("id")
    assert [record.kind for record in here.house.log()] == [RecordKind.START, RecordKind.END]


def test_a_plan_without_the_word_is_no_container(here: Containers) -> None:
    with (
        here.plan("id", backend=Backend.QEMU, isolation=Isolation.MICROVM) as plan,
        pytest.raises(RefusedError) as caught,
    ):
        run_container(plan, here.host(), stdout=lambda _: None, stderr=lambda _: None, started=ignored)
    assert caught.value.codes == (ReasonCode.BACKEND_UNAVAILABLE,)
