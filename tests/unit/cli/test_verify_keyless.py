"""`mvm verify` for whom a certificate names: log and time are needed, expressions match in full, roots stay apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import PrivateKey
from mvmnix.provenance.identity.sigstore import public_good_root
from tests.private_sigstore import Hooks
from tests.unit.cli.releases import Release, provenance
from tests.unit.cli.station import Said
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import ARTIFACT, REPOSITORY, V1
from tests.unit.provenance.forgeries import ISSUER, KEY, NOW, OURS, SUBJECT, THEIRS, edited, untimed

WHOM = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)


@pytest.fixture
def it(it: Release) -> Release:
    it.put(attested())
    (it.path / "root.json").write_bytes(OURS.trusted_root)
    (it.path / "other.json").write_bytes(THEIRS.trusted_root)
    return it


def attested(**more: Any) -> bytes:
    statement = foreign.to_bytes(foreign.statement(V1, foreign.workflow()))
    options: dict[str, Any] = {"at": NOW, "subject": SUBJECT, "issuer": ISSUER} | more
    return OURS.attest(statement, **options)


def verify(it: Release, *whom: str | Path, root: str | None = "root.json") -> Said:
    trusted = () if root is None else ("--trusted-root", it.path / root)
    return it.verify(*whom, *trusted, it.artifact, key=None)


def test_verified(it: Release) -> None:
    said = verify(it, *WHOM, "--source-uri", REPOSITORY)
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith(f"signed by {SUBJECT}, certified by {ISSUER} (signed 2026-09-01T12:00:00Z)\n")
    counted = verify(it, *WHOM, "--json").answer("verdict")["artifacts"][0]["statements"][0]
    assert counted["identity"] == {"subject": SUBJECT, "issuer": ISSUER}
    assert (counted["time"], "witness" in counted) == ("2026-09-01T12:00:00Z", False)


@pytest.mark.parametrize(
    ("whom", "code"),
    [
        (("--certificate-identity-regexp", r".*@mvmnix\.test", "--certificate-oidc-issuer", ISSUER), 0),
        (("--certificate-identity", SUBJECT, "--certificate-oidc-issuer-regexp", r"https://issuer\.(test|example)"), 0),
        (("--certificate-identity-regexp", "ci@|dev@", "--certificate-oidc-issuer", ISSUER), 1),
        (("--certificate-identity", r".*@mvmnix\.test", "--certificate-oidc-issuer", ISSUER), 1),
        (("--certificate-identity", SUBJECT, "--certificate-oidc-issuer-regexp", "https://issuer"), 1),
    ],
)
def test_who_is_meant(it: Release, whom: tuple[str, ...], code: int) -> None:
    said = verify(it, *whom, "--json")
    assert said.code == code
    assert code == 0 or said.reason_codes == [Code.SIGNER_UNKNOWN]


@pytest.mark.parametrize(
    ("text", "why"), [("ci|dev", "neither URI, email address"), (r"(a)\1@b", "regular expression of RE2")]
)
def test_an_expression_that_no_name_can_be_held_against(it: Release, text: str, why: str) -> None:
    said = verify(it, "--certificate-identity-regexp", text, "--certificate-oidc-issuer", ISSUER)
    assert said.code == 2
    assert why in said.err


def test_another_domain_and_the_public_one(it: Release) -> None:
    for root in ("other.json", None):
        said = verify(it, *WHOM, "--json", root=root)
        assert said.code == 1
        assert said.reason_codes


def test_the_public_good_root_is_there_without_a_network(it: Release) -> None:
    """Nothing is asked of anybody: an identity of the public instance is refused for what the bundle is."""
    (it.path / "public.json").write_bytes(public_good_root())
    with_it, without = (verify(it, *WHOM, "--json", root=root) for root in ("public.json", None))
    assert (with_it.code, with_it.reason_codes) == (without.code, without.reason_codes)


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"mediaType": "x"}'])
def test_a_root_that_is_none(it: Release, text: str) -> None:
    (it.path / "broken.json").write_text(text)
    said = verify(it, *WHOM, root="broken.json")
    assert (said.code, said.out, "is not a trust root" in said.err) == (2, "", True)


def test_a_key_is_nobody_who_is_certified(it: Release) -> None:
    it.put(provenance())
    assert verify(it, *WHOM).code == 1


def without_log(bundle: bytes) -> bytes:
    value = json.loads(bundle)
    value["verificationMaterial"]["tlogEntries"] = []
    return json.dumps(value).encode()


def test_keyless_needs_a_log(it: Release) -> None:
    it.put(without_log(attested()))
    said = verify(it, *WHOM, "--json")
    assert (said.code, said.reason_codes) == (1, [Code.LOG_ENTRIES, Code.SIGNING_TIME])


def test_a_key_whose_signatures_have_to_be_logged(it: Release) -> None:
    """--trusted-root with --key is no decoration."""
    logged, unlogged = attested(key=KEY), provenance(KEY)
    it.put(logged)
    said = it.verify("--trusted-root", it.path / "root.json", it.artifact, key=KEY)
    assert (said.code, "(signed 2026-09-01T12:00:00Z)" in said.out) == (0, True)
    it.put(unlogged)
    said = it.verify("--json", "--trusted-root", it.path / "root.json", it.artifact, key=KEY)
    assert (said.code, said.reason_codes) == (1, [Code.LOG_ENTRIES])
    assert it.verify(it.artifact, key=KEY).code == 0


def test_a_log_that_promises_no_time(it: Release) -> None:
    """It is in the log, and nobody says when: the verdict says both."""
    it.put(attested(key=KEY, hooks=Hooks(entry=edited(untimed))))
    said = it.verify("--trusted-root", it.path / "root.json", it.artifact, key=KEY)
    assert (said.code, said.out.endswith("(in the log, no trusted time)\n")) == (0, True), said.err
    counted = it.verify("--json", "--trusted-root", it.path / "root.json", it.artifact, key=KEY).answer("verdict")
    assert counted["artifacts"][0]["statements"][0]["witness"] == "in the log, no trusted time"


@pytest.mark.parametrize("key", [None, KEY])
def test_a_bare_signature(it: Release, key: PrivateKey | None) -> None:
    it.put(OURS.sign_blob(ARTIFACT, at=NOW, subject=SUBJECT, issuer=ISSUER, key=key, hooks=Hooks(), log=True))
    said = (
        verify(it, *WHOM) if key is None else it.verify("--trusted-root", it.path / "root.json", it.artifact, key=key)
    )
    assert (said.code, "a signature over the file" in said.out) == (0, True)
    it.artifact.write_bytes(b"other")
    assert verify(it, *WHOM).code == 1


def test_a_certified_statement_about_another_file(it: Release) -> None:
    it.artifact.write_bytes(b"other")
    said = verify(it, *WHOM, "--json")
    assert (said.code, said.reason_codes) == (1, [Code.SUBJECT_MISMATCH])
    assert f"(signer {SUBJECT}, certified by {ISSUER})" in said.answer("verdict")["reasons"][0]["why"]


def test_a_certified_statement_of_another_type(it: Release) -> None:
    said = verify(it, *WHOM, "--json", "--type", "slsaprovenance02")
    assert (said.code, said.reason_codes) == (1, [Code.PREDICATE_TYPE])
