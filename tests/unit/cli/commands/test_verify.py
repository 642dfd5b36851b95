"""`mvm build --out` and `mvm verify`: an exported image verifies anywhere; the exit code is 0, 1 or 2."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.provenance.bundle import envelope
from tests.unit.cli.plans import signed
from tests.unit.cli.policies import policy
from tests.unit.cli.shown import SBOM
from tests.unit.cli.station import Station

FILES = ["initrd", "kernel", "manifest.json", "provenance.sigstore.json", "rootfs"]


@pytest.fixture
def exported(settled: Station) -> Path:
    out = settled.path / "out/hello"
    said = settled.mvm("build", settled.flake(), "--out", out)
    assert said.code == 0, said.err
    assert said.out == f"{Digest.of((out / 'manifest.json').read_bytes())}\n"
    return out


def test_what_is_exported(settled: Station, exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == FILES
    manifest = json.loads((exported / "manifest.json").read_bytes())
    for name, artifact in manifest["artifacts"].items():
        assert Digest.of((exported / name).read_bytes()).hex == artifact["sha256"]
    again = settled.mvm("build", f"path:{settled.path}/flakes/hello", "--out", exported)
    assert again.code == 2
    assert "is there already" in again.err


def test_the_digests_as_json(settled: Station) -> None:
    result = settled.mvm("build", "--json", settled.flake()).answer("build")
    assert set(result["artifacts"]) == {"kernel", "initrd", "rootfs", "manifest.json"}
    assert result["level"] == 1
    assert result["provenance"].startswith("sha256:")


def test_verified(settled: Station, exported: Path) -> None:
    said = settled.mvm("verify", exported)
    assert (said.code, said.err) == (0, "")
    assert "verified: path:hello#default, signed by builder, SLSA Build L1 (no log, no trusted time)\n" in said.out
    result = settled.mvm("verify", "--json", exported).answer("verdict")
    assert (result["verified"], result["signer"], result["level"]) == (True, "builder", 1)
    assert (result["identity"], result["time"], result["witness"]) == (None, None, "no log, no trusted time")
    payload = envelope.parse_bundle((exported / "provenance.sigstore.json").read_bytes()).payload
    assert result["payload"] == str(Digest.of(payload))
    assert [step["step"] for step in result["steps"]] == [*range(1, 27)]
    assert all(step["passed"] for step in result["steps"])
    (exported / "flake.lock").write_bytes(b"{}")
    said = settled.mvm("verify", "--json", exported)
    refused = {step["step"]: step.get("codes") for step in said.answer("verdict")["steps"] if not step["passed"]}
    assert refused == {12: [Code.LOCK_MISMATCH], 13: [Code.LOCK_MALFORMED], 22: None}, "22 could not be taken"


def test_a_verdict_is_one_line(settled: Station, exported: Path) -> None:
    """Names in it are a stranger's."""
    settled.monkeypatch.setattr("mvmnix.cli.commands.verify_image._image_line", lambda _: "verified: a\nverified: b")
    assert settled.mvm("verify", exported).out == f"{exported}: verified: a\\nverified: b\n"


def test_a_bundle_elsewhere_and_formatted_otherwise(settled: Station, exported: Path, tmp_path: Path) -> None:
    bundle = exported / "provenance.sigstore.json"
    other = tmp_path / "bundle.json"
    other.write_text(json.dumps(json.loads(bundle.read_bytes()), indent=2))
    assert settled.mvm("verify", exported, "--bundle", other).code == 0
    bundle.unlink()
    assert settled.mvm("verify", exported).code == 2
    assert settled.mvm("verify", exported, "--bundle", other).code == 0


@pytest.fixture
def with_evidence(settled: Station) -> Path:
    out = settled.path / "out/more"
    said = settled.mvm("build", settled.flake("more", sbom=SBOM, parts=True), "--out", out)
    assert said.code == 0, said.err
    return out


def test_an_sbom_and_kept_parts_are_exported_and_verified(settled: Station, with_evidence: Path) -> None:
    parts = with_evidence / "parts.sigstore.jsonl"
    assert (with_evidence / "sbom.cdx.json").read_bytes() == SBOM
    assert sorted({path.name for path in with_evidence.iterdir()} - {parts.name, "sbom.cdx.json"}) == FILES
    assert settled.mvm("verify", with_evidence).code == 0
    (with_evidence / "sbom.cdx.json").write_bytes(SBOM + b"\n")
    said = settled.mvm("verify", with_evidence)
    assert (said.code, f"[{Code.SBOM_MISMATCH}]" in said.err) == (1, True)
    (with_evidence / "sbom.cdx.json").unlink()
    assert settled.mvm("verify", with_evidence).code == 0
    parts.write_bytes(parts.read_bytes().replace(b"signatures", b"signaturez"))
    said = settled.mvm("verify", with_evidence)
    assert (said.code, said.err.count("was changed or not handed in")) == (1, 1)
    parts.unlink()
    said = settled.mvm("verify", with_evidence)
    assert (said.code, f"[{Code.PARTS_MISMATCH}]" in said.err) == (1, True)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused(settled: Station, exported: Path, name: str) -> None:
    data = bytearray((exported / name).read_bytes())
    data[len(data) // 2] ^= 1
    (exported / name).unlink()
    (exported / name).write_bytes(data)
    said = settled.mvm("verify", exported)
    assert (said.code, said.out) == (1, "")
    assert "refused [" in said.err
    result = settled.mvm("verify", "--json", exported)
    assert result.code == 1
    verdict = result.answer("verdict")
    assert verdict["verified"] is False
    assert all({"code", "what", "why", "next"} == reason.keys() for reason in verdict["reasons"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "unreadable"])
def test_what_cannot_be_read_is_no_verdict(settled: Station, exported: Path, name: str, kind: str) -> None:
    path = exported / name
    path.unlink()
    match kind:
        case "directory":
            path.mkdir()
        case "fifo" if name != "provenance.sigstore.json":  # which may be a pipe: --bundle <(…)
            os.mkfifo(path)
        case "unreadable":
            path.symlink_to(path)
        case _:
            pass
    said = settled.mvm("verify", exported)
    assert (said.code, said.out) == (2, "")
    assert name in said.err


def test_a_lock_file_that_was_not_built_from(settled: Station, exported: Path) -> None:
    (exported / "flake.lock").write_text('{"nodes": {"root": {}}, "root": "root", "version": 7}')
    said = settled.mvm("verify", exported)
    assert said.code == 1
    assert f"refused [{Code.LOCK_MISMATCH}]" in said.err
    (exported / "flake.lock").unlink()
    (exported / "flake.lock").symlink_to("nowhere")
    assert settled.mvm("verify", exported).code == 2


def test_without_a_policy_nothing_can_be_verified(settled: Station, exported: Path) -> None:
    (settled.config / "trust.toml").unlink()
    said = settled.mvm("verify", exported)
    assert said.code == 2
    assert "policy-missing" in said.err
    assert "~/.config/mvmnix/trust.toml or with `mvm verify --policy FILE`" in said.err, "nothing need be run or built"


def test_a_floor_that_does_not_know_the_builder(settled: Station, exported: Path) -> None:
    """The machine's owner says who is trusted, whatever the user's file says."""
    other = Station(settled.path / "other", settled.capfd, settled.monkeypatch)
    other.home.mkdir(parents=True, mode=0o700)
    other.settle()
    floor = settled.path / "etc"
    floor.mkdir(mode=0o755)
    shutil.copy(other.config / "trust.toml", floor)
    said = settled.mvm("verify", exported)
    assert said.code == 2
    assert f"[{Code.POLICY_WIDENS}]" in said.err


@pytest.mark.parametrize("when", ["with", "without"])
def test_a_plan_is_verified_with_it(settled: Station, exported: Path, when: str) -> None:
    bundle = signed(settled, reference="" if when == "with" else settled.flake("other", vcpus=2))
    said = settled.mvm("verify", exported, "--plan", bundle)
    assert said.code == (0 if when == "with" else 1)


def test_an_export_that_finds_other_bytes(settled: Station) -> None:
    reference = settled.flake()
    assert settled.mvm("build", reference).code == 0
    spoilt: Callable[[Path], object] = lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?")  # noqa: E731
    for path in (settled.state / "images").iterdir():
        spoilt(path)
    said = settled.mvm("build", reference, "--out", settled.path / "out")
    assert said.code == 126
    assert not (settled.path / "out").exists()


def test_what_is_wrong_with_a_policy_and_what_to_do_are_each_said_once(settled: Station) -> None:
    policy(settled, lambda text: text.replace("serial = 1", "serial = 0"))
    said = settled.mvm("policy", "check")
    assert (said.code, f"refused [{Code.POLICY_MALFORMED}]" in said.err) == (2, True), said.err
    assert said.err.count("correct the file") == 1, said.err


def test_a_file_that_is_not_there_is_named_before_whom_to_believe(settled: Station) -> None:
    said = settled.mvm("verify", settled.path / "nowhere")
    assert (said.code, "nowhere can't be read" in said.err) == (2, True)
    assert "check the path" in said.err
    assert "give exactly one of --key" in settled.mvm("verify", f"sha256:{'0' * 64}").err
