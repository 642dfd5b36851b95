"""What a backend lacks on a host is said, all of it, and a plan that names one that lacks anything is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch import backends
from mvmnix.plan.backend import Backend
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.vmm.qemu import Qemu

NOT_STARTED = [Backend.FIRECRACKER, Backend.CLOUD_HYPERVISOR]


@pytest.mark.parametrize("backend", NOT_STARTED)
def test_what_this_version_never_starts_is_refused_with_one_reason(backend: Backend) -> None:
    """And with what to do, wherever it is installed."""
    (lack,) = backends.lacks(backend)
    with pytest.raises(RefusedError) as caught:
        backends.find(backend)
    (reason,) = caught.value.reasons
    assert (reason.code, reason.what) == (ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend")
    assert reason.why == f"{backend}: {lack.why}"
    assert "the guest agent speaks virtio-serial, and this hypervisor has vsock alone" in lack.why
    assert reason.hint == lack.hint == "sign a plan with --backend qemu"


@pytest.mark.parametrize("backend", NOT_STARTED)
def test_no_program_is_looked_for_that_would_not_be_started(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    monkeypatch.setattr(backends, "locate", lambda it: pytest.fail(f"looked for {it.what}"))
    assert backends.lacks(backend)


def test_qemu_lacks_nothing_where_it_is_installed() -> None:
    assert backends.lacks(Backend.QEMU) == ()
    assert backends.find(Backend.QEMU) == Qemu.find()


def test_a_missing_qemu_is_the_hosts_fault_and_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Candidates(what="QEMU", paths=("/proc/nonexistent/qemu",), hint="install it")
    monkeypatch.setattr("mvmnix.vmm.qemu.EXECUTABLES", nowhere)
    (missing,) = backends.lacks(Backend.QEMU)
    assert (missing.why, missing.hint) == ("QEMU is not installed: looked for /proc/nonexistent/qemu", "install it")


def test_a_program_that_others_could_change_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!")
    program.chmod(0o777)
    monkeypatch.setattr("mvmnix.vmm.qemu.EXECUTABLES", Candidates("QEMU", (str(program),), "install it"))
    (changeable,) = backends.lacks(Backend.QEMU)
    assert ReasonCode.STATE_PERMISSIONS in changeable.why


SOME = SubordinateIds(3_000_032_768, 3_000_132_768, 16, "/bin/true", "/bin/true", (3_000_000_000, 65_536), (1, 65_536))


def test_what_a_container_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SubordinateIds, "find", classmethod(lambda _: SOME))
    programs = tuple(Candidates(name, (f"/proc/nonexistent/{name}",), f"install {name}") for name in ("crun", "bwrap"))
    monkeypatch.setattr("mvmnix.launch.container.crun.PROGRAMS", programs)
    assert [lack.hint for lack in backends.lacks(Backend.CONTAINER)] == ["install crun", "install bwrap"]
    with pytest.raises(RefusedError) as caught:
        backends.find(Backend.CONTAINER)
    assert caught.value.codes == (ReasonCode.BACKEND_UNAVAILABLE,) * 2


def test_a_container_of_a_user_without_enough_ids_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.container.crun.PROGRAMS", ())
    monkeypatch.setattr(SubordinateIds, "find", classmethod(lambda _: replace(SOME, gids=(1, 65_535))))
    (lack,) = backends.lacks(Backend.CONTAINER)
    assert "takes 65536 subordinate ids" in lack.why
    assert "usermod --add-subuids" in lack.hint
