"""The unmodified library signs with the private Sigstore on loopback, by each way to an identity token."""

import gc
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.request import Request, urlopen

import pytest
from sigstore._internal.fulcio.client import FulcioClientError
from sigstore.dsse import Statement, StatementBuilder, Subject
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken, Issuer, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from mvmnix.digest import Digest
from tests.private_sigstore import Sigstore, oidc
from tests.private_sigstore.server import Served, served

pytestmark = pytest.mark.integration

SUBJECTS = ("builder@mvmnix.test", "https://ci.test/owner/repository/.ci/release.yml@refs/tags/v1")
ARTIFACT = b"artifact"


@pytest.fixture(scope="module")
def private() -> Iterator[Served]:
    with served(Sigstore()) as it:
        yield it


def statement() -> Statement:
    subject = Subject.model_validate({"name": "artifact", "digest": {"sha256": str(Digest.of(ARTIFACT))}})
    return StatementBuilder([subject], predicate_type="https://mvmnix.test/predicate", predicate={}).build()


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("tsa", [False, True])
def test_the_library_signs(private: Served, subject: str, tsa: bool) -> None:
    config = ClientTrustConfig.from_json(private.config(tsa=tsa).decode())
    policy = Identity(identity=subject, issuer=private.issuer_url)
    verifier = Verifier(trusted_root=config.trusted_root)
    with SigningContext.from_trust_config(config).signer(IdentityToken(private.token(subject))) as signer:
        attestation, signature = signer.sign_dsse(statement()), signer.sign_artifact(ARTIFACT)
    for bundle in (attestation, signature):
        assert bundle.verification_material.timestamp_verification_data is not None or not tsa
    verifier.verify_dsse(Bundle.from_json(attestation.to_json()), policy)
    verifier.verify_artifact(ARTIFACT, Bundle.from_json(signature.to_json()), policy)


def test_a_job_has_a_token(private: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in private.ambient(SUBJECTS[1]).items():
        monkeypatch.setenv(name, value)
    token = detect_credential()
    assert token is not None
    assert (IdentityToken(token).identity, IdentityToken(token).issuer) == (SUBJECTS[1], private.issuer_url)


# the library never closes the socket of its redirect server; collected here, so that no other test is blamed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_person_logs_in(private: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser is a thread that follows where it is sent."""
    browsers: list[threading.Thread] = []

    def browse(url: str) -> bool:
        browsers.append(threading.Thread(target=lambda: urlopen(url).read()))
        browsers[-1].start()
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    token = Issuer(private.issuer_url).identity_token()
    for browser in browsers:
        browser.join()
    assert token.identity == private.issuer.person
    gc.collect()


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/api/v2/signingCert", b"{}", "ValueError"),
        ("/api/v1/signingCert", b"not JSON", "JSONDecodeError"),
        ("/api/v1/log/entries", b'{"kind":"intoto"}', "a kind of entry"),
        ("/api/v1/timestamp", b"\x30\x00", "no timestamp request of version 1"),
    ],
)
def test_what_is_wrong_is_refused(private: Served, path: str, body: bytes, reason: str) -> None:
    with pytest.raises(OSError, match="400") as caught, urlopen(Request(private.base + path, body)):
        pass
    assert reason in caught.value.read().decode()  # type: ignore[attr-defined]


def test_a_forged_token_gets_no_certificate(private: Served) -> None:
    config = ClientTrustConfig.from_json(private.trust_config.decode())
    forger = oidc.Issuer(private.issuer_url, person="")
    now = datetime.now(UTC)
    for token in (
        forger.token(SUBJECTS[0], now),
        private.issuer.token(SUBJECTS[0], now, lifetime=timedelta(seconds=-1)),
        private.issuer.token(SUBJECTS[0], now, audience="another"),
    ):
        with pytest.raises(ValueError, match="token"):
            private.issuer.subject_of(token, now)
    forged = IdentityToken(forger.token(SUBJECTS[0], now))
    with pytest.raises(FulcioClientError), SigningContext.from_trust_config(config).signer(forged):
        pass
