"""What a machine runs on: demands, probes and what is remembered of them."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.runtime import accelerator
from mvmnix.launch.runtime.accelerator import KvmProbe, KvmVerdict, choose, known_verdicts
from mvmnix.plan.plan import Accelerator
from mvmnix.provenance.isolation import Boundary, Isolation
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.port import Acceleration, LaunchSpec
from tests.descriptors import nothing_left_open
from tests.patience import EVENT_PATIENCE, SHORT
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.null_sandbox import NullJail

WORKS = KvmVerdict(usable=True, seen="a probe guest booted under KVM")
FAILS = KvmVerdict(usable=False, seen="a probe guest did not boot")
KERNEL = Digest.of(b"kernel")


@pytest.mark.parametrize(
    ("demand", "verdict", "acceleration", "told"),
    [
        (Accelerator.ANY, WORKS, Acceleration.KVM, "KVM; a probe guest booted"),
        (Accelerator.ANY, FAILS, Acceleration.TCG, "TCG (software emulation); a probe guest did not boot"),
        (Accelerator.KVM, WORKS, Acceleration.KVM, "KVM; a probe guest booted"),
        (Accelerator.TCG, None, Acceleration.TCG, "TCG (software emulation), as the plan demands"),
    ],
)
def test_choice(demand: Accelerator, verdict: KvmVerdict | None, acceleration: Acceleration, told: str) -> None:
    notices: list[str] = []

    def kvm() -> KvmVerdict:
        assert verdict is not None, "nobody asked for a probe"
        return verdict

    assert choose(demand, kvm, notices.append) is acceleration
    (notice,) = notices
    assert told in notice
    assert notice.endswith(f"; isolation: {acceleration.boundary.explained}")


@pytest.mark.parametrize("required", [Isolation.MICROVM, Isolation.CONTAINER])
def test_no_policy_but_one_that_says_so_requires_hardware(required: Isolation) -> None:
    assert choose(Accelerator.ANY, lambda: FAILS, lambda _: None, required=required) is Acceleration.TCG


@pytest.mark.parametrize("demand", Accelerator)
def test_a_policy_that_requires_hardware(demand: Accelerator) -> None:
    """Whatever the plan says: under KVM or not at all."""
    notices: list[str] = []
    with pytest.raises(RefusedError) as caught:
        choose(demand, lambda: FAILS, notices.append, required=Isolation.HARDWARE)
    assert caught.value.codes == (ReasonCode.HARDWARE_REQUIRED,)
    assert notices == []
    if demand is not Accelerator.TCG:
        assert FAILS.seen in str(caught.value)
        assert choose(demand, lambda: WORKS, notices.append, required=Isolation.HARDWARE) is Acceleration.KVM


def test_kvm_that_is_demanded_and_does_not_work() -> None:
    notices: list[str] = []
    with pytest.raises(RefusedError, match="a probe guest did not boot") as caught:
        choose(Accelerator.KVM, lambda: FAILS, notices.append)
    assert caught.value.codes == (ReasonCode.ACCELERATOR_UNAVAILABLE,)
    assert notices == []


@contextmanager
def probing(
    path: Path, scenario: Scenario, device: str = "/dev/null", seconds: float = EVENT_PATIENCE
) -> Iterator[tuple[KvmProbe, LaunchSpec]]:
    (path / "kernel").write_bytes(b"kernel")
    fd = os.open(path / "kernel", os.O_RDONLY)
    with Directory.create(str(path / "cache")) as cache:
        spec = LaunchSpec(fd, fd, fd, -1, -1, -1, 4, 4096, "quiet", Acceleration.TCG, 2_000_000)
        yield KvmProbe(FakeHypervisor(scenario), NullJail(), cache, device=device, seconds=seconds), spec
    os.close(fd)


@pytest.mark.parametrize(
    ("scenario", "seen"),
    [
        (Scenario.ONLY_TCG, "did not boot under KVM (fake: failed to set MSR 0x10a)"),
        (Scenario.STOPS, "stopped with an internal error"),
        (Scenario.PANICS, "did not boot under KVM"),
        (Scenario.BABBLES, "did not boot under KVM"),
        (Scenario.HANGS, "did not boot under KVM"),
    ],
)
def test_a_probe_that_fails_says_why_and_leaves_nothing(tmp_path: Path, scenario: Scenario, seen: str) -> None:
    seconds = SHORT if scenario is Scenario.HANGS else EVENT_PATIENCE
    with probing(tmp_path, scenario, seconds=seconds) as (probe, spec), nothing_left_open():
        verdict = probe.verdict(spec, KERNEL)
    assert not verdict.usable
    assert seen in verdict.seen


def test_a_verdict_is_remembered_for_this_boot_hypervisor_and_kernel(tmp_path: Path) -> None:
    with probing(tmp_path, Scenario.BOOTS) as (probe, spec):
        assert probe.verdict(spec, KERNEL).usable
    with probing(tmp_path, Scenario.PANICS) as (probe, spec):
        assert probe.verdict(spec, KERNEL).usable
        assert not probe.verdict(spec, Digest.of(b"another kernel")).usable


def test_what_was_found_earlier_is_kept_in_full_and_told_in_short(tmp_path: Path) -> None:
    notices: list[str] = []
    with probing(tmp_path, Scenario.ONLY_TCG) as (probe, spec):
        for _ in range(2):
            choose(Accelerator.ANY, lambda: probe.verdict(spec, KERNEL), notices.append)
    assert "failed to set MSR" in notices[0]
    told = "accelerator: TCG (software emulation); found earlier, see `mvm doctor`"
    assert notices[1] == f"{told}; isolation: {Boundary.SANDBOX.explained}"
    with Directory.create(str(tmp_path / "cache")) as cache:
        (verdict,) = known_verdicts(cache)
        assert (verdict.usable, "failed to set MSR" in verdict.seen) == (False, True)
        (kept,) = (tmp_path / "cache").iterdir()
        kept.write_bytes(re.sub(rb'"boot":"[^"]*"', b'"boot":"another"', kept.read_bytes()))
        assert known_verdicts(cache) == ()


@pytest.mark.parametrize("garbage", [b"", b"{}", b'{"usable":1,"seen":""}', b"\xff"])
def test_a_verdict_that_nobody_wrote_is_probed_again(tmp_path: Path, garbage: bytes) -> None:
    with probing(tmp_path, Scenario.BOOTS) as (probe, spec):
        assert probe.verdict(spec, KERNEL).usable
        (kept,) = (tmp_path / "cache").iterdir()
        kept.write_bytes(garbage)
        assert probe.verdict(spec, KERNEL).usable
        assert kept.read_bytes() != garbage


@pytest.mark.parametrize("device", ["/proc/nonexistent/kvm"])
def test_a_device_that_is_not_there_is_not_probed(tmp_path: Path, device: str) -> None:
    with probing(tmp_path, Scenario.BOOTS, device) as (probe, spec):
        verdict = probe.verdict(spec, KERNEL)
    assert verdict == KvmVerdict(usable=False, seen=f"{device} doesn't exist")
    assert not list((tmp_path / "cache").iterdir())


def test_a_device_that_may_not_be_opened_is_not_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for every uid but root's own
    with probing(tmp_path, Scenario.BOOTS, str(device)) as (probe, spec):
        verdict = probe.verdict(spec, KERNEL)
    assert not verdict.usable
    assert verdict.seen == f"{device} may not be opened (`mvm doctor` says how)"


OPENED = "chgrp kvm DEVICE && chmod 0660 DEVICE"
JOIN = "usermod --append --groups GROUP ada"


@pytest.mark.parametrize(
    ("gid", "mode", "hint"),
    [
        (44, 0o660, f"an administrator runs: {JOIN.replace('GROUP', 'video')}; then log in anew"),
        (4_000_000, 0o660, f"an administrator runs: {JOIN.replace('GROUP', '4000000')}; then log in anew"),
        (44, 0o640, f"an administrator runs: {OPENED} && {JOIN.replace('GROUP', 'kvm')}; then log in anew"),
        (0, 0o660, f"an administrator runs: {OPENED} && {JOIN.replace('GROUP', 'kvm')}; then log in anew"),
    ],
    ids=["a group's", "a group without a name", "not to write", "root's"],
)
def test_what_opens_the_device_depends_on_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gid: int, mode: int, hint: str
) -> None:
    """Who is a member of a group that may not use it has gained nothing."""
    device = tmp_path / "kvm"
    found = os.stat_result((stat.S_IFCHR | mode, 1, 1, 1, 0, gid, 0, 0, 0, 0))
    monkeypatch.setattr(os, "stat", lambda *_, **__: found)
    monkeypatch.setattr(accelerator, "user_name", lambda _: "ada")
    assert accelerator.kvm_access_hint(str(device)) == hint.replace("DEVICE", str(device))
