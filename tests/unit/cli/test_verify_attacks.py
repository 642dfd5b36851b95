"""What somebody does who wants `mvm verify` to pass, or to call a failure a verdict: each attempt, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.api import files
from mvmnix.errors import ReasonCode as Code
from mvmnix.provenance.bundle.blob import Blob
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT
from tests.unit.cli.releases import KEY, OTHER, Release, pretty, provenance, signature, signed
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import ARTIFACT, GENERATOR, REPOSITORY, V0_2

EMPTY = (
    *("--key", "--bundle", "--certificate-identity", "--certificate-identity-regexp", "--certificate-oidc-issuer"),
    *("--certificate-oidc-issuer-regexp", "--trusted-root", "--policy", "--type", "--source-uri", "--source-tag"),
    *("--source-digest", "--source-level", "--builder-id", "--package"),
    *("--plan", "--vsa", "--verifier-id", "--resource-uri"),
)


@pytest.mark.parametrize(
    ("option", "value"), [*((option, "") for option in EMPTY), ("--trusted-root", " "), ("--type", "\t\n")], ids=ascii
)
def test_an_unset_variable_leaves_nothing_out(it: Release, option: str, value: str) -> None:
    """`--trusted-root "$ROOT"` without ROOT must not verify without a log."""
    said = it.verify(option, value, it.artifact, key=None if option == "--key" else KEY)
    words = {"--source-level": "Invalid value for '--source-level'"}
    assert (said.code, said.out, words.get(option, f"{option} is empty") in said.err) == (2, "", True)


@pytest.mark.parametrize("value", ["", " "])
def test_an_unset_variable_is_no_artifact(it: Release, value: str) -> None:
    """Nor this directory, which "" would be as a path."""
    for artifacts in ([value], [it.artifact, value], [value, it.artifact]):
        said = it.verify(*artifacts)
        assert (said.code, said.out, "artifacts is empty" in said.err) == (2, "", True)


def test_no_option_may_be_empty() -> None:
    from mvmnix.cli.commands.verify import verify

    texts = {
        each.opts[0] for each in verify.params if each.opts[0].startswith("--") and not getattr(each, "is_flag", 0)
    }
    assert texts == set(EMPTY)


def test_what_could_have_changed_the_source_is_refused_in_few_words(it: Release) -> None:
    """All that could have are rows of tests/unit/provenance/slsa/test_build_types.py."""
    made = foreign.generator()
    made["invocation"]["parameters"] = {f"p{n}": n for n in range(1000)}
    it.put(signed(foreign.statement(V0_2, made)))
    said = it.verify("--json", "--source-uri", REPOSITORY, it.artifact)
    assert (said.code, said.reason_codes) == (1, [Code.EXTERNAL_PARAMETERS])
    assert len(said.out) < 4000
    assert it.verify("--builder-id", GENERATOR, it.artifact).code == 0


def test_a_line_that_is_no_bundle_harms_no_other(it: Release) -> None:
    """Wherever it stands: anybody can add one to what is published."""
    for lines in (
        (b"no bundle", provenance()),
        (provenance(), b"no bundle"),
        (b"\xff", b"\xef\xbb\xbf{}", provenance(), b'{"a'),
        (pretty(provenance(OTHER)), provenance()),
    ):
        it.put(*lines)
        assert it.verify(it.artifact).code == 0
    it.bundle.write_bytes(pretty(provenance()).replace(b'"signatures": [', b'"signatures": [\n'))
    assert it.verify(it.artifact).code == 0
    it.bundle.write_bytes(pretty(provenance()).replace(b"{\n", b"\n{}{\n", 1))
    assert it.verify(it.artifact).code == 1


def test_a_fifo_beside_a_file_is_no_bundle(it: Release) -> None:
    it.bundle.unlink()
    os.mkfifo(it.bundle)
    said = it.verify(it.artifact)
    assert (said.code, "not a regular file" in said.err) == (2, True)


def test_a_bundle_that_is_missing_is_not_a_verdict(it: Release) -> None:
    it.bundle.unlink()
    said = it.verify(it.artifact)
    assert (said.code, said.out, "--bundle" in said.err) == (2, "", True)


def run(it: Release, *arguments: str | Path, stdout: int) -> tuple[int, str]:
    argv = [sys.executable, "-m", "mvmnix.cli", "verify", "--key", it.key(), *arguments]
    done = subprocess.run(argv, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, timeout=EVENT_PATIENCE, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("options", [(), ("--json",), ("--print-provenance",)])
def test_a_verdict_that_nobody_could_be_told_is_none(it: Release, options: tuple[str, ...]) -> None:
    """Neither 0 nor 1: the file is right, and whoever asked has not heard so."""
    with Path("/dev/full").open("wb") as full:
        assert run(it, *options, it.artifact, stdout=full.fileno())[0] == 2
    read, write = os.pipe()
    os.close(read)
    try:
        code, said = run(it, *options, it.artifact, stdout=write)
    finally:
        os.close(write)
    assert (code, said) == (141, "")


def test_what_the_system_can_not_read_is_no_verdict(it: Release) -> None:
    for name in ("/proc/self/mem", "n" * 5000, "/dev/null", "/proc/self/nonexistent"):
        code, said = run(it, "--bundle", it.bundle, name, stdout=subprocess.DEVNULL)
        assert (code, "unexpected" in said, "  next: " in said) == (2, False, True), said


def test_a_failure_that_nobody_expected_is_no_verdict(it: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no verdict")

    monkeypatch.setattr("mvmnix.cli.commands.verify.verify_artifacts", broken)
    said = it.verify(it.artifact)
    assert (said.code, "unexpected ZeroDivisionError" in said.err) == (2, True)


def test_a_file_that_is_too_large_for_its_signature(it: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused for what it is, and not as a bug of mvm's."""
    it.put(signature(), provenance(OTHER))
    monkeypatch.setattr("mvmnix.api.files._WHOLE", len(ARTIFACT) - 1)
    said = it.verify("--json", it.artifact)
    assert (said.code, said.reason_codes) == (1, [Code.SIGNATURE_INVALID, Code.SIGNER_UNKNOWN])
    assert "is larger than" in json.dumps(said.answer("verdict")["reasons"])
    it.put(signature(), provenance())
    assert it.verify(it.artifact).code == 0


def test_a_file_that_changes_while_it_is_looked_at(it: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Ed25519 signature over a file is checked over bytes that are read again: they have to be the same ones."""
    it.put(signature(b"signed"))
    (it.path / "signed").write_bytes(b"signed")
    hashed = files.blob

    def swapped(artifact: str) -> Blob:
        found = hashed(artifact)
        (it.path / "signed").replace(artifact)
        return found

    monkeypatch.setattr("mvmnix.api.files.blob", swapped)
    value = json.loads(it.bundle.read_bytes())
    del value["messageSignature"]["messageDigest"]
    it.put(json.dumps(value).encode())
    said = it.verify("--json", it.artifact)
    assert (said.code, said.reason_codes) == (1, [Code.SIGNATURE_INVALID])
    assert it.artifact.read_bytes() == b"signed"
