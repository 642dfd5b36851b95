"""What a verdict says of a log: its proof, its promise or nothing; and a policy that takes nothing but the proof."""

import json
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import PrivateKey
from mvmnix.provenance.identity import sigstore
from tests.private_sigstore import Hooks
from tests.unit.cli.releases import Release
from tests.unit.cli.station import Said
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import GENERATOR, V1
from tests.unit.provenance.forgeries import ISSUER, KEY, NOW, OURS, SUBJECT, flip
from tests.unit.provenance.versions import of_version, proofless, without_log

WHOM = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER, "--trusted-root")
POLICY = f"""
version = 1
serial = 1
expires = 2100-01-01T00:00:00Z
{{required}}

[[roots]]
name = "ours"
sha256 = "{{root}}"

[[signers]]
name = "ci"
roles = ["builder"]
identity = "{SUBJECT}"
issuer = "{ISSUER}"
root = "ours"

[[signers]]
name = "key"
roles = ["builder"]
key = '''{KEY.public.pem}'''
log = "ours"

[[builders]]
id = "{GENERATOR}"
signer = "ci"
level = 3

[[builders]]
id = "{GENERATOR}"
signer = "key"
level = 3

[sources]
patterns = ["*"]
allow-local = false
"""


@pytest.fixture
def it(it: Release) -> Release:
    (it.path / "root.json").write_bytes(OURS.trusted_root)
    (it.path / "logless.json").write_bytes(without_log())
    return it


def attested(hooks: Hooks, key: PrivateKey | None = None, **more: Any) -> bytes:
    statement = foreign.to_bytes(foreign.statement(V1, foreign.workflow()))
    return OURS.attest(statement, at=NOW, subject=SUBJECT, issuer=ISSUER, key=key, hooks=hooks, **more)


def policy(it: Release, required: str, root: bytes = OURS.trusted_root) -> Path:
    path = it.path / "policy/trust.toml"
    roots = path.parent / "roots"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    roots.mkdir(mode=0o700, exist_ok=True)
    (roots / "ours.json").write_bytes(root)
    path.write_text(POLICY.format(required=required, root=Digest.of(root).hex))
    return path


def counted(said: Said) -> dict[str, Any]:
    found: dict[str, Any] = said.answer("verdict")["artifacts"][0]["statements"][0]
    return found


@pytest.mark.parametrize("key", [None, KEY], ids=["certificate", "key"])
@pytest.mark.parametrize(
    ("hooks", "words", "inclusion"),
    [
        (of_version("0.1"), "(signed 2026-09-01T12:00:00Z)", "proved"),
        (of_version("0.1", proofless), "(signed 2026-09-01T12:00:00Z, promised by the log, no proof)", "promised"),
    ],
    ids=["proved", "promised"],
)
def test_the_verdict_says_which(it: Release, hooks: Hooks, words: str, inclusion: str, key: PrivateKey | None) -> None:
    it.put(attested(hooks, key))
    whom = (*WHOM, it.path / "root.json") if key is None else ("--trusted-root", it.path / "root.json")
    said = it.verify(*whom, it.artifact, key=key)
    assert (said.code, said.out.endswith(f"{words}\n")) == (0, True), said.err
    found = counted(it.verify(*whom, "--json", it.artifact, key=key))
    assert (found["inclusion"], found["time"]) == (inclusion, "2026-09-01T12:00:00Z")


@pytest.mark.parametrize("key", [None, KEY], ids=["certificate", "key"])
def test_a_policy_may_require_inclusion(it: Release, key: PrivateKey | None) -> None:
    it.put(attested(of_version("0.1", proofless), key))
    for required, code in (("", 0), ("require-inclusion = false", 0), ("require-inclusion = true", 1)):
        said = it.verify("--policy", policy(it, required), "--json", it.artifact, key=None)
        assert said.code == code, said.out
        if code:
            assert said.reason_codes == [Code.LOG_INCLUSION]
    it.put(attested(of_version("0.1"), key))
    assert it.verify("--policy", policy(it, "require-inclusion = true"), it.artifact, key=None).code == 0


def test_a_domain_without_a_log(it: Release) -> None:
    it.put(attested(Hooks(scts=lambda _: ()), log=False, tsa=True))
    said = it.verify(*WHOM, it.path / "logless.json", it.artifact, key=None)
    assert (said.code, said.out.endswith("(signed 2026-09-01T12:00:00Z, no log)\n")) == (0, True), said.err
    assert it.verify("--policy", policy(it, "", without_log()), it.artifact, key=None).code == 0
    said = it.verify("--policy", policy(it, "require-inclusion = true", without_log()), "--json", it.artifact, key=None)
    assert said.reason_codes == [Code.LOG_ENTRIES]
    with_log = it.verify(*WHOM, it.path / "root.json", "--json", it.artifact, key=None)
    assert set(with_log.reason_codes) == {Code.LOG_ENTRIES}


def test_what_starts_is_never_of_a_promise(it: Release) -> None:
    """`mvm verify DIRECTORY` takes the steps of a launch: the bundle is read as mvm writes it."""
    directory = it.path / "image"
    directory.mkdir()
    (directory / "provenance.sigstore.json").write_bytes(attested(of_version("0.1", proofless)))
    said = it.verify("--policy", policy(it, ""), "--json", directory, key=None)
    assert said.code != 0
    assert "bundle-malformed" in said.out + said.err
    assert json.loads((directory / "provenance.sigstore.json").read_bytes())["mediaType"].endswith("0.1")


def test_a_key_s_entry_is_looked_for_in_the_public_good_root(it: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """No root was named: none is needed, and an entry that is there has to be one of that log all the same."""
    it.put(attested(of_version("0.3"), KEY))
    said = it.verify("--json", it.artifact, key=KEY)
    (reason,) = said.answer("verdict")["reasons"]
    assert (said.code, reason["code"]) == (1, Code.LOG_ENTRIES)
    assert f"looked into: {Digest.of(sigstore.public_good_root())}" in reason["why"]
    monkeypatch.setattr(sigstore, "public_good_root", lambda: OURS.trusted_root)
    assert it.verify(it.artifact, key=KEY).out.endswith("(signed 2026-09-01T12:00:00Z)\n")
    it.put(attested(of_version("0.1", proofless), KEY))
    assert it.verify(it.artifact, key=KEY).out.endswith("promised by the log, no proof)\n")
    it.put(attested(Hooks(promise=flip), KEY))
    assert it.verify(it.artifact, key=KEY).code == 1
    it.put(attested(Hooks(), KEY, log=False))
    assert it.verify(it.artifact, key=KEY).out.endswith("(no log, no trusted time)\n")


@pytest.mark.parametrize("form", ["file", "digest"])
@pytest.mark.parametrize("bare", [False, True], ids=["statement", "signature over the file"])
def test_a_key_s_entry_and_timestamp(it: Release, bare: bool, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As cosign writes them: before the root that was named, and before the public-good one where none was."""

    def made(hooks: Hooks, **more: Any) -> bytes:
        if bare:
            return OURS.sign_blob(foreign.ARTIFACT, at=NOW, key=KEY, hooks=hooks, tsa=True, **more)
        return attested(hooks, KEY, tsa=True, **more)

    def verified(data: bytes, *whom: str | Path) -> Said:
        what = it.artifact if form == "file" else str(Digest.of(foreign.ARTIFACT))
        return it.verify(*whom, "--bundle", it.put(data), what, key=KEY)

    root = it.path / "root.json"
    monkeypatch.setattr(sigstore, "public_good_root", lambda: OURS.trusted_root)
    for whom in (("--trusted-root", root), ()):
        said = verified(made(Hooks()), *whom)
        assert (said.code, said.out.endswith("(signed 2026-09-01T12:00:00Z)\n")) == (0, True), said.err
        for hooks, code in ((Hooks(token=flip), Code.SIGNING_TIME), (Hooks(promise=flip), Code.LOG_INCLUSION)):
            said = verified(made(hooks), *whom)
            assert (said.code, f"refused [{code}]" in said.err) == (1, True), said.err
    # where no log is asked for, a timestamp stands alone
    assert verified(made(Hooks(), log=False)).out.endswith("(signed 2026-09-01T12:00:00Z, no log)\n")
    assert f"refused [{Code.LOG_ENTRIES}]" in verified(made(Hooks(), log=False), "--trusted-root", root).err
    # a root that doesn't say since when its log is trusted is none
    unbounded = json.loads(OURS.trusted_root)
    del unbounded["tlogs"][0]["publicKey"]["validFor"]["start"]
    root.write_text(json.dumps(unbounded))
    said = verified(made(Hooks()), "--trusted-root", root)
    assert (said.code, "validFor.start: missing" in said.err) == (2, True)


def test_a_key_without_an_entry_needs_no_root(it: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't even read."""

    def unread() -> bytes:
        raise AssertionError

    monkeypatch.setattr(sigstore, "public_good_root", unread)
    it.put(attested(Hooks(), KEY, log=False))
    assert it.verify(it.artifact, key=KEY).code == 0
