"""The trust policy at work: serials that never go back, revocations, several planners, several builders."""

from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import PrivateKey
from mvmnix.launch.gate import signatures
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.slsa import predicate
from tests.unit.cli.plans import log, signed
from tests.unit.cli.policies import OTHER, policy, revoke, serial, trusting
from tests.unit.cli.station import Station


def told(station: Station, *arguments: str | Path) -> set[str]:
    """The codes for which a command refuses, which it does."""
    said = station.mvm(*arguments)
    assert said.code == 126, said.err
    return {code for code in Code if f"refused [{code}]" in said.err}


def test_verdicts_have_the_policy_s_digest_and_serials(settled: Station) -> None:
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    with settled.rooms() as rooms:
        digest = rooms.policy.digest.hex
    found = log(settled)
    assert {record["kind"] for record in found} >= {"admission", "start", "end"}
    assert all(record["policy"] == digest for record in found)
    assert [record["serials"] for record in found if record["kind"] == "admission"] == [[0, 1, 0, 0]]


def test_an_older_policy_starts_nothing(settled: Station) -> None:
    reference = settled.flake()
    policy(settled, serial(5))
    newer = (settled.config / "trust.toml").read_text()
    assert settled.mvm("run", reference, "--", "true").code == 0
    policy(settled, serial(1))
    for _ in range(2):  # the refusal is logged, and is not what is trusted from then on
        assert told(settled, "run", reference, "--", "true") == {Code.POLICY_ROLLBACK}
    refusal = log(settled)[-1]
    assert (refusal["reasons"], "serials" in refusal) == (["policy-rollback"], False)
    (settled.config / "trust.toml").write_text(newer)
    assert settled.mvm("run", reference, "--", "true").code == 0


def test_a_refusal_is_a_verdict_too(settled: Station) -> None:
    """Whoever was refused under a new file doesn't start under the old one."""
    reference = settled.flake()
    bundle = signed(settled, reference=reference)
    text = revoke(settled.config, Digest.of(bundle.read_bytes()).hex, serial=2)
    assert settled.mvm("launch", bundle).code == 126
    for older in (text.replace("serial = 2", "serial = 1"), None):
        (settled.config / "revocations.toml").unlink()
        if older is not None:
            (settled.config / "revocations.toml").write_text(older)
        assert Code.POLICY_ROLLBACK in told(settled, "run", reference, "--", "true")


def test_a_floor_that_vanished(settled: Station) -> None:
    reference, floor = settled.flake(), settled.path / "etc"
    floor.mkdir(mode=0o755)
    (floor / "trust.toml").write_bytes((settled.config / "trust.toml").read_bytes())
    assert settled.mvm("run", reference, "--", "true").code == 0
    (floor / "trust.toml").unlink()
    assert told(settled, "run", reference, "--", "true") == {Code.POLICY_ROLLBACK}


def test_a_revoked_image_is_not_found_any_more(settled: Station) -> None:
    reference = settled.flake()
    manifest = settled.mvm("build", "--json", reference).answer("build")["artifacts"]["manifest.json"]
    bundle = signed(settled)
    revoke(settled.config, manifest.removeprefix("sha256:"), more='reason = "a hole in it"\n')
    assert told(settled, "launch", bundle) == {Code.IMAGE_REVOKED}
    assert "is revoked: 'a hole in it'" in settled.mvm("launch", bundle).err
    assert told(settled, "run", reference, "--", "true") == {Code.IMAGE_REVOKED}


def test_a_second_planner_signs_the_same_plan(settled: Station) -> None:
    """What one planner signed is handed to the next; both keys are in turn this station's planner."""
    table = "[thresholds]\nplans = 2"
    policy(settled, lambda text: trusting(text, roles="planner", table=table))
    bundle = signed(settled)
    assert told(settled, "launch", bundle) == {Code.PLAN_THRESHOLD}
    both = settled.path / "both.sigstore.json"
    both.write_bytes(bundle.read_bytes() + b"\n" + bundle.read_bytes())
    assert told(settled, "launch", both) == {Code.PLAN_THRESHOLD}, "one planner twice"
    data = bundle.read_bytes()
    both.write_bytes(data + b"\n" + envelope.sign(signatures.payload(data), OTHER).to_bytes())
    shown = settled.mvm("plan", "show", both)
    signers, isolation = shown.err.splitlines()[:-1], shown.err.splitlines()[-1]
    assert signers == [f"signed by {name}, a planner of the trust policy" for name in ("planner", "other")]
    assert isolation.startswith("isolation: ")
    assert settled.mvm("launch", both).code == 0
    (settled.config / "keys" / "planner.pem").unlink()
    assert settled.mvm("key", "create", "planner").code == 0
    third = settled.path / "third.sigstore.json"
    assert settled.mvm("plan", "sign", "-o", third, both).code == 0
    assert third.read_bytes().startswith(both.read_bytes() + b"\n")


def test_who_has_signed_a_plan_does_not_sign_it_again(settled: Station) -> None:
    """A plan with a signature too many is no plan any more: nothing is signed, and no file is touched."""
    bundle, again = signed(settled), settled.path / "again.sigstore.json"
    data = bundle.read_bytes()
    other = envelope.sign(signatures.payload(data), OTHER).to_bytes()
    for signatures_before in (data, data + b"\n" + other, other + b"\n" + data):
        bundle.write_bytes(signatures_before)
        for out in (again, bundle):
            said = settled.mvm("plan", "sign", bundle, "-o", out)
            assert said.code == 2, said.err
            assert "has signed this plan already" in said.err
            assert "another planner" in said.err
        assert not again.exists()
        assert bundle.read_bytes() == signatures_before


def test_run_under_two_planners_says_how_a_plan_is_handed_out(settled: Station) -> None:
    policy(settled, lambda text: trusting(text, roles="planner", table="[thresholds]\nplans = 2"))
    said = settled.mvm("run", settled.flake(), "--", "true")
    assert said.code == 126
    assert "refused [plan-threshold]" in said.err
    assert "`mvm plan create`" in said.err


def test_different_plans_are_not_signed_as_one(settled: Station) -> None:
    one, two = (signed(settled, reference=settled.flake(name)).read_bytes() for name in ("hello", "other"))
    both = settled.path / "both.sigstore.json"
    both.write_bytes(one + b"\n" + two)
    assert told(settled, "plan", "sign", both) == {Code.PLAN_THRESHOLD}
    assert settled.mvm("plan", "show", both).code == 126


@pytest.fixture
def second(settled: Station) -> tuple[str, Path]:
    """An image that needs two builders, by its manifest, and what the other builder says of it."""
    table = '[thresholds]\nrebuilds = 2\n[[builders]]\nid = "urn:mvmnix:builder:microvm:1"\nsigner = "other"\nlevel = 1'
    host_nix = '[[builders]]\nid = "urn:mvmnix:builder:host-nix:1"\nsigner = "other"\nlevel = 1\nimages = ["builder"]'
    policy(settled, lambda text: trusting(text, roles="builder", table=f"{table}\n{host_nix}"))
    built = settled.mvm("build", "--json", settled.flake()).answer("build")
    bundle = settled.state / "bundles" / built["provenance"].removeprefix("sha256:")
    claim = statement.parse(envelope.parse_bundle(bundle.read_bytes()).payload)
    again = replace(predicate.read_provenance(claim), invocation="urn:uuid:another")
    payload = predicate.provenance_statement(again, settled.world("hello").image.artifacts).to_bytes()
    path = settled.path / "second.sigstore.json"
    path.write_bytes(envelope.sign(payload, OTHER).to_bytes())
    return built["artifacts"]["manifest.json"].removeprefix("sha256:"), path


def test_an_image_that_needs_two_builders(settled: Station, second: tuple[str, Path]) -> None:
    manifest, bundle = second
    plan = signed(settled, reference=f"path:{settled.path}/flakes/hello")
    assert told(settled, "launch", plan) == {Code.REBUILDS_MISSING}
    said = settled.mvm("image", "testify", "--json", manifest[:12], bundle).answer("testimony")
    assert (said["builders"], said["wanted"]) == (["builder", "other"], 2)
    assert settled.mvm("launch", plan).code == 0
    told_again = settled.mvm("image", "testify", manifest, bundle)
    assert told_again.out == f"sha256:{manifest}: 2 of 2 builders that are asked for: builder, other\n"


def test_a_rebuild_counts_once_whoever_signs_for_it(settled: Station, second: tuple[str, Path]) -> None:
    """As it does at a launch: a third signer for the second builder's run is none."""
    manifest, bundle = second
    third = PrivateKey.generate()
    admitted = "".join(
        f'[[builders]]\nid = "urn:mvmnix:builder:{builder}:1"\nsigner = "third"\nlevel = 1\n{images}'
        for builder, images in (("microvm", ""), ("host-nix", 'images = ["builder"]\n'))
    )
    signer = f'[[signers]]\nname = "third"\nroles = ["builder"]\nkey = """\n{third.public.pem}"""\n{admitted}'
    policy(settled, lambda text: text.replace("[launch]", f"{signer}[launch]"))
    again = settled.path / "third.sigstore.json"
    again.write_bytes(envelope.sign(envelope.parse_bundle(bundle.read_bytes()).payload, third).to_bytes())
    said = settled.mvm("image", "testify", "--json", manifest, bundle, again).answer("testimony")
    assert said["builders"] in (["builder", "other"], ["builder", "third"])


def test_testimony_that_is_not_taken(settled: Station, second: tuple[str, Path]) -> None:
    manifest, _ = second
    (first, *_) = (settled.state / "bundles").iterdir()
    junk = settled.path / "junk"
    junk.write_bytes(b"{}")
    assert settled.mvm("image", "testify", manifest, junk).code == 126
    assert settled.mvm("image", "testify", manifest, first).code == 126
    assert settled.mvm("image", "testify", "0" * 12, junk).code != 0
    assert not (settled.state / "rebuilds").exists()
