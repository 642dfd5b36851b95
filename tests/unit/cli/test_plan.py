"""`mvm plan`: made, signed, shown; what is no plan is not signed, and what is not admitted is said so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.keys import PrivateKey
from mvmnix.launch import plan as plans
from mvmnix.launch.plan import Accelerator, Plan
from mvmnix.model import Verb
from mvmnix.provenance import envelope, statement
from tests.unit.cli.station import Station


def read(path: Path) -> Plan:
    return plans.from_statement(statement.parse(path.read_bytes()))


def create(station: Station, *arguments: str, **manifest: Any) -> Plan:
    out = station.path / "plan.json"
    out.unlink(missing_ok=True)
    said = station.mvm("plan", "create", "-o", out, station.flake(**manifest), *arguments)
    assert (said.code, said.out) == (0, ""), said.err
    return read(out)


def test_a_plan_says_what_the_image_says(settled: Station) -> None:
    made = create(settled)
    assert (made.image, made.vcpus, made.memory_mib, made.scratch_mib) == ("hello", 1, 128, 16)
    assert made.workload.argv == ("/bin/hello", "world")
    assert made.accelerator is Accelerator.ANY
    assert made.verbs == {Verb.EXEC}
    assert (made.window.not_after - made.window.not_before).total_seconds() == 24 * 3600


def test_every_option_changes_its_part(settled: Station) -> None:
    options = ("--vcpus=3", "--memory=500", "--scratch=7", "--timeout=9", "--accelerator=tcg", "--valid-for=2")
    made = create(settled, *options, "--", "true", "--vcpus=9")
    assert (made.vcpus, made.memory_mib, made.scratch_mib, made.timeouts.wall_seconds) == (3, 500, 7, 9)
    assert made.accelerator is Accelerator.TCG
    assert made.workload.argv == ("true", "--vcpus=9")
    assert (made.window.not_after - made.window.not_before).total_seconds() == 2 * 3600


def test_a_sealed_image_grants_nothing(settled: Station) -> None:
    assert create(settled, posture="sealed", verbs=[]).verbs == frozenset()


def test_streams_are_not_granted_without_ports(settled: Station) -> None:
    made = create(settled, verbs=["exec", "stream"])
    assert made.verbs == {Verb.EXEC}
    assert not made.ports


def test_two_plans_are_never_the_same(settled: Station) -> None:
    reference = settled.flake()
    one, two = (settled.mvm("plan", "create", reference).out for _ in range(2))
    assert json.loads(one) != json.loads(two)


def test_create_sign_show_launch(settled: Station) -> None:
    plan, bundle = settled.path / "plan.json", settled.path / "plan.sigstore.json"
    reference = settled.flake()
    assert settled.mvm("plan", "create", "-o", plan, reference, "--", "echo", "from a plan").code == 0
    assert settled.mvm("plan", "sign", "-o", bundle, plan).code == 0
    shown = settled.mvm("plan", "show", bundle)
    assert shown.code == 0
    assert shown.err == "signed by planner, a planner of the trust policy\n"
    assert json.loads(shown.out) == json.loads(plan.read_bytes())
    launched = settled.mvm("launch", bundle)
    assert (launched.code, launched.out) == (0, "from a plan\n")
    again = settled.mvm("launch", "--name", "again", bundle)
    assert again.code == 0, "a plan holds for as long as it says"


def test_what_is_signed_is_the_plan_and_not_the_bytes(settled: Station) -> None:
    """Another formatting of the same plan makes canonical bytes, so that the launch takes it."""
    plan, bundle = settled.path / "plan.json", settled.path / "plan.sigstore.json"
    settled.mvm("plan", "create", "-o", plan, settled.flake(), "--", "true")
    canonical = plan.read_bytes()
    plan.write_text(json.dumps(json.loads(canonical), indent=4))
    settled.mvm("plan", "sign", "-o", bundle, plan)
    assert envelope.parse(bundle.read_bytes()).payload == canonical
    assert settled.mvm("launch", bundle).code == 0


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"_type": "https://in-toto.io/Statement/v1"}'])
def test_what_is_no_plan_is_not_signed(settled: Station, data: bytes) -> None:
    path = settled.path / "plan.json"
    path.write_bytes(data)
    said = settled.mvm("plan", "sign", path)
    assert (said.code, said.out) == (126, "")


def test_a_provenance_is_no_plan(settled: Station) -> None:
    settled.flake()
    (bundle, *_) = (settled.state / "bundles").iterdir()
    path = settled.path / "statement.json"
    path.write_bytes(envelope.parse(bundle.read_bytes()).payload)
    said = settled.mvm("plan", "sign", path)
    assert said.code == 126
    assert "refused [predicate-type]" in said.err


def test_a_stranger_s_plan_is_shown_as_such_and_not_launched(settled: Station) -> None:
    plan, bundle = settled.path / "plan.json", settled.path / "plan.sigstore.json"
    settled.mvm("plan", "create", "-o", plan, settled.flake(), "--", "true")
    evil = replace(read(plan), workload=replace(read(plan).workload, argv=("\x1b[2J\u202e",)))
    bundle.write_bytes(envelope.sign(plans.to_statement(evil).to_bytes(), PrivateKey.generate()).to_bytes())
    shown = settled.mvm("plan", "show", bundle)
    assert shown.code == 0
    assert "NOT ADMITTED [signer-unknown]" in shown.err
    assert shown.out.isascii()
    assert "\x1b" not in shown.out
    launched = settled.mvm("launch", bundle)
    assert launched.code == 126
    assert "refused [signer-unknown]" in launched.err
    assert not list((settled.state / "machines").glob("*/receipt*"))


def test_what_is_no_bundle(settled: Station) -> None:
    path = settled.path / "x"
    path.write_bytes(b"{}")
    for command in (("plan", "show"), ("launch",)):
        said = settled.mvm(*command, path)
        assert said.code == 126
        assert "refused [bundle-malformed]" in said.err


def test_an_image_that_is_not_kept(settled: Station) -> None:
    plan, bundle = settled.path / "plan.json", settled.path / "plan.sigstore.json"
    settled.mvm("plan", "create", "-o", plan, settled.flake(), "--", "true")
    settled.mvm("plan", "sign", "-o", bundle, plan)
    for entry in (settled.state / "builds").iterdir():
        entry.unlink()
    said = settled.mvm("launch", bundle)
    assert said.code == 125
    assert "mvm build" in said.err


def test_from_a_pipe_and_to_one(settled: Station) -> None:
    made = settled.mvm("plan", "create", settled.flake())
    path = settled.path / "plan.json"
    path.write_text(made.out)
    signed = settled.mvm("plan", "sign", path)
    assert signed.err == ""
    assert envelope.parse(signed.out.encode()).payload == made.out.encode()
