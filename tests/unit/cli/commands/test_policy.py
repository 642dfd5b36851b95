"""`mvm policy`: an account of the policy, what its rules say of things, and of another time or evidence."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from tests.repository import ROOT
from tests.unit.cli.plans import log, signed
from tests.unit.cli.policies import OTHER, policy, serial, trusting
from tests.unit.cli.station import Station

EXAMPLE = ROOT / "examples/policy"
TRUSTED_ROOT = b"""{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": [
  {"baseUrl": "http://localhost", "hashAlgorithm": "SHA2_256", "logId": {"keyId": "AAAA"},
   "publicKey": {"rawBytes": "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
                 "keyDetails": "PKIX_ED25519", "validFor": {"start": "2026-01-02T00:00:00Z"}}}]}"""


SINCE = "2026-01-01T00:00:00Z"


def pinned(station: Station, data: bytes = TRUSTED_ROOT) -> None:
    """A trust root beside the policy, an identity that it certifies, a verifier, and what is revoked."""
    (station.config / "roots").mkdir(mode=0o700, exist_ok=True)
    (station.config / "roots/ours.json").write_bytes(data)
    tables = f"""
[[roots]]
name = "ours"
sha256 = "{Digest.of(data).hex}"
[[signers]]
name = "ci"
roles = ["verifier"]
identity-regexp = ".*@ours[.]example"
issuer = "https://issuer.example"
root = "ours"
[[verifiers]]
signer = "ci"
id = "urn:example:gate"
max-age = "7d"
min-level = 1
[freshness]
plan-window = "36h"
snapshots-not-before = 2026-01-01T00:00:00Z
[launch]"""
    policy(station, lambda text: text.replace("[launch]", tables))
    key = Digest.of(OTHER.public.spki).hex
    revoked = f'version = 1\nserial = 4\n[[keys]]\nsha256 = "{key}"\nreason = "lost"\ndate = 2026-11-25T00:00:00Z\n'
    (station.config / "revocations.toml").write_text(revoked)


def test_an_account_for_people(settled: Station) -> None:
    pinned(settled)
    said = settled.mvm("policy", "check")
    assert said.code == 0, said.err
    shown = {(line.split()[0], " ".join(line.split()[1:])) for line in said.out.splitlines()[1:]}
    assert ("file", "the user's trust.toml, serial 1") in shown
    assert ("file", "the user's revocations.toml, serial 4") in shown
    names = {text.split(":")[0]: text for about, text in shown if about == "signer"}
    assert names["ci"].endswith(
        "/.*@ours[.]example/, certified under the root ours, by the issuer https://issuer.example"
    )
    assert names["planner"].endswith("no log needed")
    assert any(about == "root" and "no older than 2026-01-02" in text for about, text in shown)
    assert ("verifier", "urn:example:gate by ci: SLSA Build L1 at least, 7d old at most, about *") in shown
    assert ("plan's", "window 36h at most") in shown
    assert ("snapshots", f"of {SINCE} and later") in shown
    assert ("revoked", f"key {OTHER.public.fingerprint}, 2026-11-25: lost") in shown
    assert any(about == "expires" and text.endswith(" days") for about, text in shown)


def test_an_account_for_machines(settled: Station) -> None:
    pinned(settled)
    told = settled.mvm("policy", "check", "--json").answer("policy")
    assert told["serials"] == {
        "the machine's trust.toml": 0,
        "the user's trust.toml": 1,
        "the machine's revocations.toml": 0,
        "the user's revocations.toml": 4,
    }
    assert told["roots"][0]["name"] == "ours"
    assert told["roots"][0]["newest"] == "2026-01-02T00:00:00Z"
    assert told["roots"][0]["days"] > 0
    assert {signer["name"]: signer["roles"] for signer in told["signers"]}["ci"] == ["verifier"]
    assert told["verifiers"][0]["maxAge"] == "7d"
    assert told["freshness"] == {"provenance": None, "planWindow": "36h", "planAge": None, "snapshotsNotBefore": SINCE}
    assert (told["expired"], told["narrowed"], told["thresholds"]) == (False, [], {"plans": 1, "rebuilds": 1})
    assert told["revoked"][0]["reason"] == "lost"
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    assert {record["policy"] for record in log(settled)} == {told["digest"].removeprefix("sha256:")}


def test_what_the_floor_leaves(settled: Station) -> None:
    (settled.path / "etc").mkdir(mode=0o755)
    floor = settled.path / "etc/trust.toml"
    table = f'[thresholds]\nplans = 2\n[freshness]\nprovenance = "90d"\nsnapshots-not-before = {SINCE}'
    floor.write_text(trusting((settled.config / "trust.toml").read_text(), roles="planner", table=table))
    policy(settled, lambda text: text.replace("level = 1", "level = 0").replace("2037", "2036"))
    told = settled.mvm("policy", "check", "--json").answer("policy")
    assert told["narrowed"] == [
        "of the machine's signers, the user's file leaves out other",
        "the user's file leaves out or narrows the machine's rule for urn:mvmnix:builder:microvm:1",
        "the user's file leaves out or narrows the machine's rule for urn:mvmnix:builder:host-nix:1",
        "the threshold for plans is the machine's: 2",
        "the bound on the age of a build is the machine's: 90d",
        f"the time since when snapshots count is the machine's: {SINCE}",
        "the user's file expires before the machine's, which does at 2037-01-01T00:00:00Z",
    ]
    assert [source["file"] for source in told["sources"]] == ["the machine's", "the user's"]
    shown = settled.mvm("policy", "check").out
    assert "floor" in shown
    assert "the threshold for plans is the machine's: 2" in shown


def test_an_expired_policy_says_so(settled: Station) -> None:
    policy(settled, lambda text: text.replace("expires = 20", "expires = 19"))
    said = settled.mvm("policy", "check")
    assert said.code == 1
    assert "EXPIRED: nothing is trusted" in said.out
    assert settled.mvm("policy", "check", "git+https://host/x?rev=1").code == 1


@pytest.mark.parametrize("break_", ["gone", "malformed", "no root"])
def test_no_policy_to_give_an_account_of(settled: Station, break_: str) -> None:
    match break_:
        case "gone":
            (settled.config / "trust.toml").unlink()
        case "malformed":
            (settled.config / "trust.toml").write_text("version = 9")
        case _:
            pinned(settled)
            (settled.config / "roots/ours.json").unlink()
    assert settled.mvm("policy", "check").code == 2


@pytest.fixture
def exported(settled: Station) -> Path:
    out = settled.path / "out/hello"
    said = settled.mvm("build", settled.flake(), "--out", out)
    assert said.code == 0, said.err
    return out


def rules(judged: dict[str, Any]) -> set[tuple[str, bool]]:
    return {(it["rule"], it["admits"]) for it in judged["rules"]}


def test_an_image_and_the_rules_that_match(settled: Station, exported: Path) -> None:
    said = settled.mvm("policy", "check", "--json", exported)
    assert said.code == 0, said.err
    (judged,) = said.answer("policy check")
    assert (judged["kind"], judged["admitted"], judged["level"], judged["reasons"]) == ("image", True, 1, [])
    assert rules(judged) == {("signers", True), ("builders", True), ("sources", True), ("freshness", None)}
    assert [(step["step"], step["passed"]) for step in judged["steps"]] == [(number, True) for number in range(1, 27)]
    shown = settled.mvm("policy", "check", exported)
    assert shown.out.startswith(f"{exported}: image admitted, SLSA Build L1\n  yes  signers ")


@pytest.mark.parametrize(
    ("old", "new", "code", "rule"),
    [
        ('patterns = ["*"]', 'patterns = ["git+*"]', Code.SOURCE_NOT_ADMITTED, "sources"),
        ("allow-local = true", "allow-local = false", Code.SOURCE_NOT_ADMITTED, "sources"),
        (
            'signer = "builder"\nlevel = 1\n\n#',
            'signer = "planner"\nlevel = 1\n\n#',
            Code.BUILDER_NOT_ADMITTED,
            "builders",
        ),
        ("[launch]", '[freshness]\nprovenance = "1m"\n[launch]', Code.PROVENANCE_STALE, None),
    ],
)
@pytest.mark.parametrize("what", ["image", "bundle"])
def test_the_rule_that_refuses(
    settled: Station, exported: Path, old: str, new: str, code: Code, rule: str | None, what: str
) -> None:
    if code is Code.PROVENANCE_STALE:
        settled.monkeypatch.setattr("mvmnix.cli.commands.policy.now", later(hours=1))
    policy(settled, lambda text: text.replace(old, new))
    item = exported if what == "image" else exported / "provenance.sigstore.json"
    said = settled.mvm("policy", "check", "--json", item)
    assert said.code == 1
    (judged,) = said.answer("policy check")
    assert ({reason["code"] for reason in judged["reasons"]}, judged["admitted"], judged["level"]) == (
        {code},
        False,
        None,
    )
    assert {name for name, admits in rules(judged) if admits is False} == ({rule} if rule else set())
    shown = settled.mvm("policy", "check", item)
    assert f"refused [{code}]" in shown.out
    assert ("its files were not looked at" in shown.out) == (what == "bundle")


def later(**distance: int) -> Callable[[], datetime]:
    return lambda: now() + timedelta(**distance)


def test_a_plan_and_the_rules_that_match(settled: Station) -> None:
    bundle = signed(settled)
    (judged,) = settled.mvm("policy", "check", "--json", bundle).answer("policy check")
    assert (judged["kind"], judged["admitted"]) == ("plan", True)
    assert rules(judged) == {
        *(("signers", True), ("thresholds", True), ("digest", True), ("isolation", True), ("freshness", None))
    }
    table = '[thresholds]\nplans = 2\n[freshness]\nplan-window = "1h"'
    policy(settled, lambda text: trusting(text, roles="planner", table=table))
    said = settled.mvm("policy", "check", "--json", bundle)
    assert said.code == 1
    (judged,) = said.answer("policy check")
    codes = {reason["code"] for reason in judged["reasons"]}
    assert codes == {Code.PLAN_THRESHOLD, Code.PLAN_STALE, Code.POLICY_MISMATCH}
    assert rules(judged) >= {("thresholds", False), ("digest", False)}


def test_sources(settled: Station) -> None:
    policy(settled, lambda text: text.replace('patterns = ["*"]', 'patterns = ["git+https://ours.example/*"]'))
    said = settled.mvm("policy", "check", "git+https://ours.example/x?rev=1", "path:hello", "github:o/r/1")
    assert said.code == 1
    assert [line for line in said.out.splitlines() if not line.startswith(" ")] == [
        "git+https://ours.example/x?rev=1: source admitted",
        "path:hello: source refused",
        "github:o/r/1: source refused",
    ]


@pytest.mark.parametrize("item", ["nothing", "./nothing", "git+https://a b", "/nothing:here"])
def test_what_is_nothing(settled: Station, item: str) -> None:
    assert settled.mvm("policy", "check", item).code == 2


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"{}\n{}"])
def test_a_file_that_is_no_bundle(settled: Station, data: bytes) -> None:
    path = settled.path / "bundle"
    path.write_bytes(data)
    said = settled.mvm("policy", "check", path)
    assert said.code == 1
    assert "refused [bundle-malformed]" in said.out


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"{}\n{}"])
def test_an_image_whose_bundle_is_none(settled: Station, exported: Path, data: bytes) -> None:
    """That is a verdict: the bundle was read, and says nothing."""
    (exported / "provenance.sigstore.json").write_bytes(data)
    said = settled.mvm("policy", "check", exported)
    assert (said.code, "refused [bundle-malformed]" in said.out) == (1, True), said.err
    assert settled.mvm("verify", exported).code == 1


def test_a_fifo_in_the_place_of_a_bundle(settled: Station, exported: Path) -> None:
    (exported / "provenance.sigstore.json").unlink()
    os.mkfifo(exported / "provenance.sigstore.json")
    for command in (("policy", "check"), ("verify",), ("launch", "--image", exported, exported / "manifest.json")):
        words = command if command[0] == "launch" else (*command, exported)
        said = settled.mvm(*words)
        assert (said.code, "not a regular file" in said.err) == (2, True), said.err


def test_another_policy_by_its_path(settled: Station, exported: Path) -> None:
    for where in (EXAMPLE, EXAMPLE / "trust.toml"):
        said = settled.mvm("policy", "check", "--json", "--policy", where, exported)
        assert said.code == 1
        (judged,) = said.answer("policy check")
        assert [reason["code"] for reason in judged["reasons"]] == [Code.SIGNER_UNKNOWN]
    assert settled.mvm("policy", "check", "--policy", exported / "manifest.json").code == 2
    assert settled.mvm("policy", "check", "--policy", settled.path / "nowhere/trust.toml").code == 2
    assert settled.mvm("policy", "check", "--policy", settled.path).code == 2, "no trust.toml there"


def test_the_example_s_verdicts_are_as_expected(settled: Station) -> None:
    program = settled.path / "bin/mvm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -P -m mvmnix.cli "$@"\n')
    program.chmod(0o755)
    environment = {"HOME": str(settled.home), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def tried(*policy: Path) -> "subprocess.CompletedProcess[str]":
        words = (EXAMPLE / "try", *policy)
        return subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, check=False)

    assert (done := tried()).returncode == 0, (done.stdout, done.stderr)
    other = settled.path / "trust.toml"
    other.write_text((EXAMPLE / "trust.toml").read_text().replace("allow-local = true", "allow-local = false"))
    other.write_text(other.read_text().replace("git.example/ours/*", "git.example/*"))
    assert (done := tried(other)).returncode == 1
    assert re.findall("FAILED, .*?:", done.stdout) == ["FAILED, no source-not-admitted:"]


@pytest.fixture
def plan(settled: Station, exported: Path) -> Path:
    """A plan for the image, under a policy that admits inputs of one host."""
    inputs = 'patterns = ["*"]\ninputs = ["https://ours.example/*"]'
    policy(settled, lambda text: text.replace('patterns = ["*"]', inputs))
    return signed(settled, reference=f"path:{settled.path}/flakes/hello")


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (("IMAGE",), []),
        (("IMAGE", "--plan", "PLAN"), []),
        (("IMAGE", "--provenance", "IMAGE/provenance.sigstore.json"), []),
        (("IMAGE", "--provenance", "PLAN"), ["signer-role"]),
        (("IMAGE", "--plan", "PLAN", "--at", "2036-01-01T00:00:00Z"), ["plan-expired"]),
        (("PLAN", "--at", "2036-01-01T00:00:00Z"), ["plan-expired"]),
        (("--input", "path:x"), ["input-not-admitted"]),
        (("path:x", "--input", "https://ours.example/x"), []),
    ],
)
def test_other_evidence_and_another_time(
    settled: Station, exported: Path, plan: Path, words: tuple[str, ...], codes: list[str]
) -> None:
    given = [word.replace("IMAGE", str(exported)).replace("PLAN", str(plan)) for word in words]
    said = settled.mvm("policy", "check", "--json", *given)
    assert [reason["code"] for it in said.answer("policy check") for reason in it["reasons"]] == codes
    assert said.code == bool(codes)


@pytest.mark.parametrize(
    "words",
    [
        ("--plan", "PLAN"),
        ("path:x", "--plan", "PLAN"),
        ("PLAN", "--provenance", "PLAN"),
        ("IMAGE", "path:x", "--provenance", "PLAN"),
        ("--at", "2036-01-01T00:00:00Z"),
        ("path:x", "--at", "2036-01-40"),
        ("--input", "path: x"),
        ("IMAGE", "--plan", "nowhere"),
        ("IMAGE", "--provenance", "nowhere"),
    ],
)
def test_what_can_t_be_asked(settled: Station, exported: Path, plan: Path, words: tuple[str, ...]) -> None:
    given = [word.replace("IMAGE", str(exported)).replace("PLAN", str(plan)) for word in words]
    assert settled.mvm("policy", "check", *given).code == 2


def test_an_account_of_a_policy_older_than_the_log_says_so(settled: Station) -> None:
    policy(settled, serial(5))
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    assert settled.mvm("policy", "check").code == 0
    assert settled.mvm("policy", "check", "--json").answer("policy")["rolledBack"] == []
    policy(settled, serial(1))
    before = sorted((path, path.stat().st_mtime_ns) for path in settled.home.rglob("*"))
    said = settled.mvm("policy", "check")
    assert said.code == 1
    assert "ROLLED BACK" in said.out
    assert "it has serial 1, and the last one in the audit log had serial 5" in said.out
    (told,) = settled.mvm("policy", "check", "--json").answer("policy")["rolledBack"]
    assert "the user's trust.toml" in told
    assert settled.mvm("policy", "check", "--policy", settled.config / "trust.toml").code == 0, "not the one in force"
    assert sorted((path, path.stat().st_mtime_ns) for path in settled.home.rglob("*")) == before
    (segment,) = (settled.state / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b"admission", b"ADMISSION", 1))
    assert "not compared with the audit log: " in settled.mvm("policy", "check").out


def test_nothing_is_admitted_under_a_policy_older_than_the_log(settled: Station) -> None:
    image = settled.path / "out/hello"
    reference = settled.flake()
    assert settled.mvm("build", reference, "--out", image).code == 0
    bundle = image / "provenance.sigstore.json"
    items = (image, bundle, "path:hello")
    policy(settled, serial(5))
    assert settled.mvm("run", reference, "--", "true").code == 0
    for item in items:
        assert settled.mvm("policy", "check", item).code == 0
    assert settled.mvm("verify", image).code == 0
    policy(settled, serial(1))
    for item in items:
        said = settled.mvm("policy", "check", "--json", item)
        (found,) = said.answer("policy check")
        assert (said.code, found["admitted"], found["level"]) == (1, False, None)
        assert [reason["code"] for reason in found["reasons"]] == [Code.POLICY_ROLLBACK]
        assert settled.mvm("policy", "check", "--policy", settled.config, item).code == 0, "not the one in force"
    said = settled.mvm("verify", "--json", image)
    (reason,) = said.answer("verdict")["reasons"]
    assert (said.code, reason["code"]) == (1, Code.POLICY_ROLLBACK)
    assert "refused [policy-rollback]: it has serial 1, and the last one in the audit log had serial 5" in (
        settled.mvm("verify", image).err
    )
    assert settled.mvm("verify", "--policy", settled.config, image).code == 0


def test_where_the_log_cannot_be_read_there_is_no_verdict(settled: Station) -> None:
    image = settled.path / "out/hello"
    reference = settled.flake()
    assert settled.mvm("build", reference, "--out", image).code == 0
    assert settled.mvm("run", reference, "--", "true").code == 0
    (segment,) = (settled.state / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b"admission", b"ADMISSION", 1))
    for command in (("verify", image), ("policy", "check", image)):
        said = settled.mvm(*command)
        assert said.code == 2
        assert "was not compared with the audit log" in said.err
    assert settled.mvm("verify", "--policy", settled.config, image).code == 0


def test_an_account_where_no_log_is_makes_none(settled: Station) -> None:
    assert settled.mvm("policy", "check").code == 0
    assert not (settled.state / "audit").exists()
