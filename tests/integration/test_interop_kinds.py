"""Kinds of log entries and versions of bundles before mvm, cosign, sigstore-go and the library: who takes what.

All are signed by one private Sigstore. Where a program decides otherwise than mvm, the table says so, and why.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sigstore.errors import VerificationError
from sigstore.models import Bundle, ClientTrustConfig, InvalidBundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from mvmnix.system.process import Completed
from tests.integration.interop import Bench, Who
from tests.private_sigstore import Hooks, Sigstore
from tests.private_sigstore.bodies import (
    dsse_2_body,
    dsse_body,
    hashedrekord_2_body,
    intoto_1_body,
    intoto_2_body,
)
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.forgeries import ISSUER, NOW, SUBJECT, edited, flip, put, untimed
from tests.unit.provenance.versions import of_version, proofless

pytestmark = pytest.mark.integration

PRIVATE = Sigstore()
US = Who(subject=SUBJECT, issuer=ISSUER)
ARTIFACT, OTHER = foreign.ARTIFACT, b"another"
ALL = frozenset({"cosign", "sigstore-go", "library"})
GO = frozenset({"cosign", "sigstore-go"})


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle of a kind, and which programs take it; mvm takes them all."""

    options: Mapping[str, Any]
    takers: frozenset[str]
    hooks: Hooks = field(default_factory=Hooks)


SECOND = Hooks(entry=edited(untimed))
KINDS = {
    "dsse 0.0.1": Made({"kind": dsse_body}, ALL),
    # the library refuses a log's time beside these
    "intoto 0.0.2": Made({"kind": intoto_2_body}, GO),
    # the library as above; sigstore-go looks for the signature that such an entry doesn't have
    "intoto 0.0.1": Made({"kind": intoto_1_body}, frozenset()),
    # Rekor's second version, which is younger than Debian's programs; the library knows one of its kinds
    "hashedrekord 0.0.2": Made({"kind": hashedrekord_2_body, "tsa": True}, frozenset({"library"}), SECOND),
    "dsse 0.0.2": Made({"kind": dsse_2_body, "tsa": True}, frozenset(), SECOND),
    "version 0.1": Made({}, ALL, of_version("0.1")),
    "version 0.2": Made({}, ALL, of_version("0.2")),
    "version 0.1, promised": Made({}, GO, of_version("0.1", proofless)),
    "version 0.1, promised, intoto 0.0.2": Made({"kind": intoto_2_body}, GO, of_version("0.1", proofless)),
    # cosign knows artifacts by SHA-256
    "SHA-512": Made({"digest": "sha512"}, ALL - {"cosign"}),
}
PROGRAMS = ("cosign", "sigstore-go", "library")


def statement(algorithm: str = "sha256") -> bytes:
    value = foreign.statement(foreign.V1, foreign.workflow())
    value["subject"] = [{"name": "app.img", "digest": {algorithm: hashlib.new(algorithm, ARTIFACT).hexdigest()}}]
    return foreign.to_bytes(value)


def made(case: str, change: Callable[[Hooks], Hooks] = lambda it: it) -> bytes:
    it = KINDS[case]
    options = dict(it.options)
    payload = statement(options.pop("digest", "sha256"))
    return PRIVATE.attest(payload, at=NOW, subject=SUBJECT, issuer=ISSUER, hooks=change(it.hooks), **options)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    it = Bench(tmp_path_factory.mktemp("kinds"))
    it.trust(PRIVATE)
    it.put(artifact_img=ARTIFACT, other_img=OTHER)
    return it


def takes(bench: Bench, program: str, data: bytes, who: Who = US, artifact: str = "artifact.img") -> bool:
    """Whether a program verifies the bundle. The library says nothing of artifacts: mvm's own reader does that."""
    bench.put(bundle_json=data)
    match program:
        case "mvm":
            return passed(bench.mvm("bundle.json", artifact, who))
        case "cosign":
            return passed(bench.cosign("verify-blob-attestation", "bundle.json", artifact, who))
        case "sigstore-go":
            return passed(bench.sigstore_go("bundle.json", artifact, who))
        case _:
            return library_takes(data, who)


def passed(done: Completed) -> bool:
    assert done.status in {0, 1}, done.stderr.decode()
    return done.status == 0


def library_takes(data: bytes, who: Who) -> bool:
    try:
        verifier = Verifier(trusted_root=trusted_root())
        verifier.verify_dsse(Bundle.from_json(data), Identity(identity=who.subject, issuer=who.issuer))
    except (VerificationError, InvalidBundle):
        return False
    return True


def trusted_root() -> TrustedRoot:
    config = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": json.loads(PRIVATE.trusted_root),
        "signingConfig": {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"},
    }
    return ClientTrustConfig.from_json(json.dumps(config)).trusted_root


@pytest.mark.parametrize("case", KINDS)
def test_who_takes_it(bench: Bench, case: str) -> None:
    data = made(case)
    assert takes(bench, "mvm", data)
    assert {program for program in PROGRAMS if takes(bench, program, data)} == KINDS[case].takers


#: What every program refuses that takes the unchanged one.
FORGERIES: dict[str, Callable[[Hooks], Hooks]] = {
    "signature": lambda it: changed(it, signature=flip),
    "payload": lambda it: changed(it, content=put("e30=", "payload")),
    "promise": lambda it: changed(it, promise=flip),
}


def changed(hooks: Hooks, **more: Any) -> Hooks:
    return replace(hooks, **more)


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("case", KINDS)
def test_all_refuse_a_forgery(bench: Bench, case: str, forgery: str) -> None:
    if forgery == "promise" and KINDS[case].hooks.entry is not Hooks().entry:
        return  # entries of the second version have none
    data = made(case, FORGERIES[forgery])
    assert [program for program in ("mvm", *KINDS[case].takers) if takes(bench, program, data)] == []


@pytest.mark.parametrize("case", KINDS)
def test_all_refuse_another_identity_and_artifact(bench: Bench, case: str) -> None:
    data = made(case)
    programs = ("mvm", *KINDS[case].takers)
    for who in (Who(subject=f"x{SUBJECT}", issuer=ISSUER), Who(subject=SUBJECT, issuer=f"{ISSUER}/x")):
        assert [program for program in programs if takes(bench, program, data, who)] == []
    aware = [program for program in programs if program != "library"]
    assert [program for program in aware if takes(bench, program, data, US, "other.img")] == []
