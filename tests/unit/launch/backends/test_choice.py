"""What a backend lacks on a host is said, all of it, and a plan that names one that lacks anything is refused."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix import caller
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.backends import choice
from mvmnix.launch.backends.qemu import Qemu
from mvmnix.launch.plan.backend import Backend
from mvmnix.sandbox.trusted_executables import Candidates

PREVIEW = [Backend.FIRECRACKER, Backend.CLOUD_HYPERVISOR]
NOWHERE = "/nonexistent/kvm"


@pytest.fixture
def device() -> Iterator[str]:
    """A file that could be opened, where KVM's device would be."""
    with tempfile.NamedTemporaryFile() as file:
        yield file.name


def install(monkeypatch: pytest.MonkeyPatch, backend: Backend, *paths: str) -> None:
    """Have the backend's program be looked for here and nowhere else."""
    module = backend.value.replace("-", "_")
    program = Candidates(what="The program", paths=paths or ("/nonexistent/program",), hint="install it")
    monkeypatch.setattr(f"mvmnix.launch.backends.{module}.EXECUTABLES", program)


@pytest.mark.parametrize("backend", PREVIEW)
def test_all_that_is_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    install(monkeypatch, backend)
    program, kvm, vsock = choice.lacks(backend, kvm=NOWHERE)
    assert (program.why, program.hint) == (
        "The program is not installed: looked for /nonexistent/program",
        "install it",
    )
    assert kvm.why == f"there is no {NOWHERE}"
    assert "vsock" in vsock.why
    with pytest.raises(RefusedError) as caught:
        choice.find(backend, kvm=NOWHERE)
    assert caught.value.codes == (ReasonCode.BACKEND_UNAVAILABLE,) * 3
    assert all(str(backend) in reason.why for reason in caught.value.reasons)


@pytest.mark.parametrize("backend", PREVIEW)
def test_what_is_there_is_not_missing(monkeypatch: pytest.MonkeyPatch, backend: Backend, device: str) -> None:
    install(monkeypatch, backend, "/bin/sh")
    (vsock,) = choice.lacks(backend, kvm=device)
    assert "no image reports there yet" in vsock.why


@pytest.mark.parametrize("backend", PREVIEW)
def test_a_program_that_others_could_change_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, tmp_path: Path, device: str
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!")
    program.chmod(0o777)
    install(monkeypatch, backend, str(program))
    changeable, _ = choice.lacks(backend, kvm=device)
    assert ReasonCode.STATE_PERMISSIONS in changeable.why


@pytest.mark.parametrize(("uid", "hint"), [(1000, "join the group kvm"), (0, "chgrp kvm DEVICE && chmod 0660 DEVICE")])
def test_a_device_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch, device: str, uid: int, hint: str) -> None:
    install(monkeypatch, Backend.FIRECRACKER, "/bin/sh")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for every uid but root's own
    monkeypatch.setattr(caller, "uid", lambda: uid)
    kvm, _ = choice.lacks(Backend.FIRECRACKER, kvm=device)
    assert (kvm.why, kvm.hint) == (f"{device} can't be opened by you", hint.replace("DEVICE", device))


def test_qemu_lacks_nothing_where_it_is_installed() -> None:
    assert choice.lacks(Backend.QEMU, kvm=NOWHERE) == ()
    assert choice.find(Backend.QEMU) == Qemu.find()


def test_a_missing_qemu_is_the_hosts_fault_and_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Backend.QEMU)
    (missing,) = choice.lacks(Backend.QEMU)
    assert missing.hint == "install it"


@pytest.mark.skipif(os.geteuid() != 0, reason="what root has")
def test_what_a_container_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tuple(Candidates(name, (f"/nonexistent/{name}",), f"install {name}") for name in ("crun", "bwrap"))
    monkeypatch.setattr("mvmnix.launch.container.crun.PROGRAMS", programs)
    assert [lack.hint for lack in choice.lacks(Backend.CONTAINER)] == ["install crun", "install bwrap"]
    with pytest.raises(RefusedError) as caught:
        choice.find(Backend.CONTAINER)
    assert caught.value.codes == (ReasonCode.BACKEND_UNAVAILABLE,) * 2


def test_a_container_of_a_plain_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.container.crun.PROGRAMS", ())
    monkeypatch.setattr(caller, "uid", lambda: 1000)
    (lack,) = choice.lacks(Backend.CONTAINER)
    assert "only root" in lack.why
