"""`mvm verify ARTIFACT…`: bundles of any tool, whom to trust said on the command line; 0, 1 or 2."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from tests.repository import ROOT
from tests.unit.cli.releases import KEY, OTHER, P256, Release, pretty, provenance, signature, signed
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance import world as worlds
from tests.unit.provenance.foreign_world import ARTIFACT, COMMIT, DIGEST, GENERATOR, REPOSITORY, TAG, V0_2, V1

ALL = ("--type", "slsaprovenance1", "--source-uri", REPOSITORY, "--source-tag", TAG, "--source-digest", COMMIT)


def test_verified(it: Release) -> None:
    said = it.verify(*ALL, "--builder-id", GENERATOR, it.artifact)
    assert (said.code, said.err) == (0, "")
    who = f"signed by key {KEY.public.fingerprint}"
    assert said.out == f"{it.artifact}: verified: {V1}, {who} (no log, no trusted time)\n"


def test_nothing_is_written_and_no_home_is_needed(it: Release) -> None:
    assert it.verify(it.artifact).code == 0
    assert not it.station.home.exists() or not list(it.station.home.rglob("*"))


def test_as_json(it: Release) -> None:
    result = it.verify("--json", it.artifact).answer("verdict")
    assert result["verified"] is True
    (artifact,) = result["artifacts"]
    (counted,) = artifact["statements"]
    assert (artifact["digest"], artifact["others"]) == (str(DIGEST), [])
    assert counted["fingerprint"] == str(KEY.public.fingerprint)
    assert (counted["type"], counted["time"], counted["witness"]) == (V1, None, "no log, no trusted time")
    assert counted["bundle"] == str(Digest.of(it.bundle.read_bytes()))


def test_a_digest_instead_of_a_file(it: Release) -> None:
    assert it.verify("--bundle", it.bundle, str(DIGEST)).code == 0
    assert it.verify("--bundle", it.bundle, str(Digest.of(b"x"))).code == 1
    assert it.verify(str(DIGEST)).code == 2


def test_json_lines_stdin_and_a_shared_bundle(it: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    both = it.path / "both.jsonl"
    other = it.path / "other.img"
    other.write_bytes(b"other")
    both.write_bytes(b"\n\n".join((provenance(), provenance(KEY, Digest.of(b"other")))) + b"\r\n")
    said = it.verify("--bundle", both, it.artifact, other)
    assert (said.code, said.out.count("verified: ")) == (0, 2)
    read, write = os.pipe()
    saved = os.dup(0)
    try:
        os.write(write, provenance())
        os.close(write)
        os.dup2(read, 0)
        assert it.verify("--bundle", "-", it.artifact).code == 0
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)


def test_the_one_that_counts_may_stand_among_others(it: Release) -> None:
    it.put(b"{}", provenance(OTHER), provenance(KEY, Digest.of(b"other")), provenance(), signed({}))
    result = it.verify("--json", it.artifact).answer("verdict")
    (artifact,) = result["artifacts"]
    assert [each["number"] for each in artifact["statements"]] == [4]
    found = {reason["code"] for reason in artifact["others"]}
    assert {Code.BUNDLE_MALFORMED, Code.SIGNER_UNKNOWN, Code.SUBJECT_MISMATCH, Code.STATEMENT_MALFORMED} == found


def test_each_counted_statement_meets_every_requirement_alone(it: Release) -> None:
    """One names the source and the other the builder: together they are worth nothing."""
    builder = foreign.workflow(repository="https://git.example/evil")
    source = foreign.workflow()
    source["runDetails"]["builder"]["id"] = "https://builder.example/other"
    it.put(*(signed(foreign.statement(V1, one)) for one in (builder, source)))
    said = it.verify("--json", "--source-uri", REPOSITORY, "--builder-id", GENERATOR, it.artifact)
    assert (said.code, said.reason_codes) == (1, [Code.SOURCE_MISMATCH, Code.BUILDER_MISMATCH])


def test_a_refusal_as_people_read_it(it: Release) -> None:
    it.put(provenance(KEY, Digest.of(b"o")), provenance(), provenance(OTHER))
    said = it.verify("--source-uri", "https://git.example/other", it.artifact)
    assert (said.code, said.out) == (1, "")
    *lines, more = said.err.splitlines()
    assert any(
        line.startswith(
            f"{it.artifact}: refused [source-mismatch]: expected https://git.example/other, statement 2 of 3 says "
            f"{REPOSITORY} (signer key {KEY.public.fingerprint}). Next: "
        )
        for line in lines
    )
    assert all(line.startswith(f"{it.artifact}: refused [") and ". Next: " in line for line in lines)
    assert len(lines) == 4
    assert re.fullmatch(r"more: mvm explain [a-z-]+(?:; mvm explain [a-z-]+)*", more)
    assert "mvm explain source-mismatch" in more


#: What the command line adds to rows of tests/unit/provenance/verify, which have every code.
ROWS: dict[str, tuple[Code, bytes, tuple[str, ...]]] = {
    "no bundle": (Code.ATTESTATION_MISSING, b"\n \n", ()),
    "somebody else's": (Code.SIGNER_UNKNOWN, provenance(OTHER), ()),
    "another file": (Code.SUBJECT_MISMATCH, provenance(KEY, Digest.of(b"other")), ()),
    "another type": (Code.PREDICATE_TYPE, provenance(), ("--type", "spdxjson")),
    "another source": (Code.SOURCE_MISMATCH, provenance(), ("--source-uri", "https://git.example/org/ap")),
    "another builder": (Code.BUILDER_MISMATCH, provenance(), ("--builder-id", "https://builder.example")),
    "no statement": (Code.STATEMENT_MALFORMED, signed({"_type": "https://in-toto.io/Statement/v2"}), ()),
}


@pytest.mark.parametrize("row", ROWS)
def test_refusals(it: Release, row: str) -> None:
    code, bundle, options = ROWS[row]
    it.put(bundle)
    said = it.verify("--json", *options, it.artifact)
    assert said.code == 1, said.err
    assert code in said.reason_codes
    assert set(said.reason_codes) <= {code, Code.SIGNATURE_INVALID}, "a signature over other bytes is none over these"
    assert it.verify(*options, it.artifact).err.count(f"{it.artifact}: refused [{code}]: ") >= 1


def test_a_huge_bundle_is_not_read(it: Release) -> None:
    with it.bundle.open("wb") as file:
        file.truncate(2**26 + 1)
    assert it.verify(it.artifact).code == 2
    it.put(*[b"{ }"] * 1025)
    said = it.verify(it.artifact)
    assert (said.code, "at most 1024" in said.err) == (2, True)


@pytest.mark.parametrize("key", [KEY, P256])
def test_a_bare_signature(it: Release, key: Any) -> None:
    it.put(signature(key=key))
    said = it.verify(it.artifact, key=key)
    assert (said.code, said.out.count("a signature over the file, signed by")) == (0, 1)
    assert it.verify("--print-provenance", it.artifact, key=key).out == ""
    it.artifact.write_bytes(ARTIFACT + b"\0")
    assert it.verify(it.artifact, key=key).code == 1
    by_digest = it.verify("--bundle", it.bundle, str(DIGEST), key=key)
    assert by_digest.code == (0 if key is P256 else 1), "Ed25519 signs the file, not its digest"


def test_the_statements_that_count_are_printed(it: Release) -> None:
    evil = foreign.statement(V1, foreign.workflow(), name="\x1b[2J\u202e")
    it.put(signed(evil), provenance(OTHER))
    said = it.verify("--print-provenance", it.artifact)
    assert said.code == 0
    assert json.loads(said.out) == evil
    assert said.out.isascii()
    assert "\x1b" not in said.out
    assert "verified: " in said.err
    assert it.verify("--print-provenance", "--source-tag", "v9", it.artifact).out == ""
    result = it.verify("--json", "--print-provenance", it.artifact).answer("verdict")
    assert result["artifacts"][0]["statements"][0]["statement"] == evil


def test_strangers_words_are_escaped(it: Release) -> None:
    name = it.path / "a\x1b[2Jpp\n.img"
    name.write_bytes(ARTIFACT)
    evil = "https://git.example/\x1b[31m\u202e\nverified"
    statement = foreign.statement(V0_2, foreign.generator(repository=evil))
    it.put(signed(statement))
    for said in (
        it.verify("--bundle", it.bundle, "--source-uri", REPOSITORY, name),
        it.verify("--bundle", it.bundle, name),
        it.verify("--json", "--bundle", it.bundle, "--source-uri", REPOSITORY, name),
    ):
        assert "\x1b" not in said.out + said.err
        assert "\u202e" not in said.out + said.err
        assert "\nverified" not in said.out + said.err


USAGE: dict[str, tuple[str, ...]] = {
    "nobody to trust": (),
    "a key and an identity": ("--key", "{key}", "--certificate-identity", "a"),
    "a key and a policy": ("--key", "{key}", "--policy", "trust.toml"),
    "an identity without an issuer": ("--certificate-identity", "a@b.example"),
    "an issuer without an identity": ("--certificate-oidc-issuer", "https://issuer.example"),
    "an identity in two ways": (
        *("--certificate-identity", "a", "--certificate-identity-regexp", "a"),
        *("--certificate-oidc-issuer", "b"),
    ),
    "an empty identity": ("--certificate-identity", "", "--certificate-oidc-issuer", "https://issuer.example"),
    "no regular expression": ("--certificate-identity-regexp", "(", "--certificate-oidc-issuer", "b"),
    "a root alone": ("--trusted-root", "{key}"),
    "a root and a policy": ("--policy", "trust.toml", "--trusted-root", "{key}"),
    "no key there": ("--key", "/proc/nonexistent"),
    "no key in it": ("--key", "{artifact}"),
    "no root there": (
        "--certificate-identity",
        "a",
        "--certificate-oidc-issuer",
        "b",
        "--trusted-root",
        "/proc/nonexistent",
    ),
    "no root in it": ("--certificate-identity", "a", "--certificate-oidc-issuer", "b", "--trusted-root", "/dev/null"),
    "no policy there": ("--policy", "/proc/nonexistent/trust.toml"),
    "a policy of another name": ("--policy", "{artifact}"),
    "no bundle there": ("--key", "{key}", "--bundle", "/proc/nonexistent"),
    "an unknown type": ("--key", "{key}", "--type", "provenance"),
    "an empty type": ("--key", "{key}", "--type", ""),
    "an empty source": ("--key", "{key}", "--source-uri", ""),
    "an empty tag": ("--key", "{key}", "--source-tag", ""),
    "an unknown option": ("--key", "{key}", "--insecure-ignore-tlog"),
    "a plan": ("--key", "{key}", "--plan", "plan.json"),
    "a missing file beside it": ("--key", "{key}", "/proc/nonexistent.img"),
    "a directory beside it": ("--key", "{key}", "/"),
}


@pytest.mark.parametrize("row", USAGE)
def test_what_could_not_be_verified(it: Release, row: str) -> None:
    options = [text.format(key=it.key(), artifact=it.artifact) for text in USAGE[row]]
    said = it.station.mvm("verify", *options, it.artifact)
    assert (said.code, said.out) == (2, "")
    assert said.err


def test_a_fifo_is_no_file(it: Release) -> None:
    it.artifact.unlink()
    os.mkfifo(it.artifact)
    assert it.verify(it.artifact).code == 2


def test_no_option_skips_anything() -> None:
    from mvmnix.cli.commands.verify import verify

    options = {option for each in verify.params for option in each.opts}
    assert not [option for option in options if any(word in option for word in ("insecure", "skip", "ignore", "no-"))]


def test_one_refused_file_among_others(it: Release) -> None:
    other = it.path / "other.img"
    other.write_bytes(b"other")
    said = it.verify("--bundle", it.bundle, it.artifact, other)
    assert (said.code, said.out.count("verified: ")) == (1, 1)
    assert said.err.startswith(f"{other}: refused [subject-mismatch]")


def test_pretty_bundles_are_one(it: Release) -> None:
    it.bundle.write_bytes(b"\n\n" + pretty(provenance(OTHER)))
    assert it.verify("--json", it.artifact).answer("verdict")["reasons"][0]["why"].startswith("statement 1 of 1")


@pytest.mark.parametrize("whom", ["key", "policy"])
def test_a_key_or_a_policy_does_not_pay_for_sigstore(it: Release, whom: str) -> None:
    policy = it.path / "trust.toml"
    policy.write_bytes(worlds.trust())
    options = {"key": ["--key", str(it.key())], "policy": ["--policy", str(policy)]}[whom]
    program = f"""
import sys
from mvmnix.cli.main import main
sys.argv = ["mvm", "verify", *{options!r}, {str(it.artifact)!r}]
try:
    main()
except SystemExit as end:
    assert end.code == {0 if whom == "key" else 1}, end.code
assert "sigstore" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True)
