"""`--backend`: what a plan says of it, and that one that can't be had here is refused, with a word in the log."""

import json
import re

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.launch.runtime.accelerator import KvmVerdict
from mvmnix.plan.backend import Backend
from mvmnix.provenance.isolation import Isolation
from tests.repository import ROOT
from tests.unit.cli.plans import log, signed
from tests.unit.cli.policies import policy
from tests.unit.cli.station import Station

REFUSED = 126
BROKEN = KvmVerdict(usable=False, seen="a probe guest did not boot")


def predicate(station: Station, *options: str) -> dict[str, object]:
    said = station.mvm("plan", "create", *options, station.flake())
    assert said.code == 0, said.err
    value: dict[str, object] = json.loads(said.out)["predicate"]
    return value


@pytest.mark.parametrize("backend", Backend)
def test_a_plan_says_its_backend_and_what_that_is_worth(settled: Station, backend: Backend) -> None:
    made = predicate(settled, "--backend", backend)
    assert (made["backend"], made["isolation"]) == (backend, backend.isolation)
    assert (backend is Backend.CONTAINER) == (made["isolation"] == "container: not a microVM")


def test_qemu_unless_it_is_said_otherwise(settled: Station) -> None:
    assert predicate(settled)["backend"] == "qemu"


@pytest.mark.parametrize("backend", [Backend.FIRECRACKER, Backend.CLOUD_HYPERVISOR, Backend.CONTAINER])
def test_what_does_not_go_together_is_no_plan(settled: Station, backend: Backend) -> None:
    said = settled.mvm("plan", "create", "--backend", backend, "--accelerator", "tcg", settled.flake())
    assert (said.code, said.out) == (2, "")
    assert "tcg" in said.err


@pytest.mark.parametrize("backend", [Backend.FIRECRACKER, Backend.CLOUD_HYPERVISOR])
def test_a_backend_that_this_version_does_not_start_is_refused(settled: Station, backend: Backend) -> None:
    said = settled.mvm("run", "--backend", backend, settled.flake(), "--", "true")
    assert said.code == REFUSED
    assert f"[{ReasonCode.BACKEND_UNAVAILABLE}]" in said.err
    (shown,) = re.findall(r"```text\n(.*?)```", (ROOT / "docs/reference/backends.md").read_text(), re.DOTALL)
    assert shown.replace("firecracker", backend) in said.err, "the page shows what is said"
    admission, refusal = log(settled)
    assert admission["kind"] == "admission"
    assert (refusal["kind"], refusal["reasons"], refusal["plan"]) == (
        "refusal",
        ["backend-unavailable"],
        admission["plan"],
    )


@pytest.mark.parametrize("options", [(), ("--detach",)])
def test_a_signed_plan_is_refused_the_same(settled: Station, options: tuple[str, ...]) -> None:
    said = settled.mvm("launch", *options, signed(settled, "--backend", "firecracker"))
    assert (said.code, said.out) == (REFUSED, "")
    assert [record["kind"] for record in log(settled)] == ["admission", "refusal"]


def test_a_container_is_refused_by_the_policy_that_mvm_makes(settled: Station) -> None:
    said = settled.mvm("run", "--backend", "container", settled.flake(), "--", "true")
    assert said.code == REFUSED
    assert f"[{ReasonCode.ISOLATION_UNAVAILABLE}]" in said.err
    assert "asks for the isolation 'container: not a microVM', the policy requires 'microvm'" in said.err
    assert [record["reasons"] for record in log(settled)] == [["isolation-unavailable"]]


def test_a_container_where_the_policy_says_that_word_too(settled: Station) -> None:
    """The image here is no file system, which is found out where it can do no harm."""
    policy(settled, lambda text: text.replace('isolation = "microvm"', f'isolation = "{Isolation.CONTAINER}"'))
    said = settled.mvm("run", "--backend", "container", settled.flake(), "--", "true")
    assert said.code == 125
    assert f"mvm: {Isolation.CONTAINER}" in said.err
    assert "erofs" in said.err
    assert [record.get("backend") for record in log(settled)] == [None, "container: not a microVM", None]


def require_hardware(station: Station) -> None:
    policy(station, lambda text: text.replace('isolation = "microvm"', f'isolation = "{Isolation.HARDWARE}"'))


@pytest.mark.parametrize("options", [(), ("--backend", "container")])
def test_where_the_policy_requires_hardware_nothing_else_starts(settled: Station, options: tuple[str, ...]) -> None:
    """Refused when it is to start, without KVM; a container is refused by the gate already."""
    flake = settled.flake()
    require_hardware(settled)
    settled.monkeypatch.setattr("mvmnix.launch.runtime.accelerator.KvmProbe.verdict", lambda *_: BROKEN)
    said = settled.mvm("run", *options, flake, "--", "true")
    assert (said.code, said.out) == (REFUSED, "")
    assert f"refused [{ReasonCode.HARDWARE_REQUIRED}]" in said.err
    assert log(settled)[-1]["reasons"] == ["hardware-required"]
    assert all(record["kind"] != "start" for record in log(settled))


def test_what_a_policy_that_requires_hardware_says_of_plans(settled: Station) -> None:
    require_hardware(settled)
    assert ("isolation", Isolation.HARDWARE) in [
        (line.split()[0], line.split()[1].rstrip(":")) for line in settled.mvm("policy", "check").out.splitlines()[1:]
    ]
    assert settled.mvm("policy", "check", "--json").answer("policy")["isolation"] == "hardware"
    for accelerator, admitted in (("any", True), ("kvm", True), ("tcg", False)):
        bundle = signed(settled, "--accelerator", accelerator)
        (judged,) = settled.mvm("policy", "check", "--json", bundle).answer("policy check")
        assert [rule["admits"] for rule in judged["rules"] if rule["rule"] == "isolation"] == [admitted]
        codes = [reason["code"] for reason in judged["reasons"]]
        assert (judged["admitted"], codes) == (admitted, [] if admitted else ["hardware-required"])


def test_the_machines_floor_requires_hardware(settled: Station) -> None:
    flake, user = settled.flake(), settled.config / "trust.toml"
    settled.monkeypatch.setattr("mvmnix.launch.runtime.accelerator.KvmProbe.verdict", lambda *_: BROKEN)
    etc = settled.path / "etc"
    etc.mkdir(mode=0o700)
    text = user.read_text()
    (etc / "trust.toml").write_text(text.replace('"microvm"', '"hardware"'))
    said = settled.mvm("run", flake, "--", "true")
    assert f"refused [{ReasonCode.POLICY_WIDENS}]" in said.err, "the user's file is content with less, and says so"
    user.write_text(text[: text.index("[launch]")])
    assert "the required isolation is the machine's: hardware" in settled.mvm("policy", "check").out
    said = settled.mvm("run", flake, "--", "true")
    assert (said.code, f"refused [{ReasonCode.HARDWARE_REQUIRED}]" in said.err) == (REFUSED, True)


def test_the_start_is_logged_with_its_backend(settled: Station) -> None:
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    assert [record.get("backend") for record in log(settled)] == [None, "qemu", None]
