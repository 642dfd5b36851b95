"""What signing for an identity needs before anything is asked of a service, and what is said where it is not there."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sigstore.errors import VerificationError
from sigstore.oidc import Issuer
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from mvmnix.errors import MvmnixError
from mvmnix.provenance.identity import sigstore
from tests.integration.misbehaving import Asked, Server
from tests.patience import EVENT_PATIENCE
from tests.unit.provenance.forgeries import NOW

#: Zeros that an answer unpacks to.
UNPACKED = 32 << 20
#: By how it is packed, an answer.
BOMBS = {
    "gzip": gzip.compress(bytes(UNPACKED), 1),
    "deflate": zlib.compress(bytes(UNPACKED), 1),
    "gzip, gzip": gzip.compress(gzip.compress(bytes(UNPACKED), 1)),
}
#: What the library asks services with: OIDC, certificates, log and time by requests, a CI's token and TUF by urllib3.
CLIENTS: dict[str, Callable[[str], object]] = {
    "requests": lambda url: requests.Session().post(url, timeout=EVENT_PATIENCE).content,
    "sigstore": Issuer,
    "urllib3": lambda url: urllib3.request("GET", url).data,
    "tuf": lambda url: Urllib3Fetcher().download_bytes(url, UNPACKED),
}


@pytest.mark.parametrize("coding", BOMBS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_packed_answer_is_not_asked_for_and_not_unpacked(client: str, coding: str) -> None:
    def answer(it: Asked) -> None:
        it.answer(BOMBS[coding], f"Content-Encoding: {coding}")
        it.hang_up()

    with Server() as server:
        server.routes = dict.fromkeys(("/", "/.well-known/openid-configuration"), answer)
        tracemalloc.start()
        try:
            said = CLIENTS[client](f"{server.origin}/")
        except Exception as error:  # noqa: BLE001 - whatever the library says of an answer that is not JSON
            said = error
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert [headers["accept-encoding"] for _, headers in server.asked] == ["identity"]
    assert peak < UNPACKED // 8
    assert said == BOMBS[coding] or isinstance(said, Exception)


def test_a_library_that_ships_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_store/https%3A%2F%2Fempty").mkdir(parents=True)
    monkeypatch.setattr(sigstore, "files", lambda _: tmp_path)
    with pytest.raises(MvmnixError, match="ships no trust root"):
        sigstore.public_good_root()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", r"Invalid JSON: EOF .*"),
        (b"{}", r"mediaType Field required"),
        (b"\xff", r"'utf-8' codec can't decode .*"),
        (b'{"mediaType": "application/x"}', r"mediaType Input should be '[^']*'"),
    ],
)
def test_a_text_that_is_no_trust_configuration(text: bytes, told: str) -> None:
    """The first place and what is wrong there, of all that the library says."""
    with pytest.raises(ValueError, match=rf"\A{told}\Z"):
        sigstore.look_at_config(text)


def test_nobody_to_sign_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, none of a CI job, and no terminal; what fails is told, and MvmnixError as it is."""
    monkeypatch.setattr(sigstore, "detect_credential", lambda: None)
    monkeypatch.setattr(sigstore, "_config", lambda where: where)
    with pytest.raises(MvmnixError, match=r"^there is no OIDC token"):
        sigstore.sign(b"{}", token=None, interactive=False, where=sigstore.Instance.STAGING)
    with pytest.raises(MvmnixError, match=r"^signing keyless failed: IdentityError: .+"):
        sigstore.sign(b"{}", token="no token", interactive=False, where=sigstore.Instance.STAGING)


@pytest.mark.parametrize(("variable", "asked"), [("", True), ("BUILDKITE", False), ("CIRCLECI", False)])
def test_the_token_of_a_job(variable: str, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the CI job, where no program is asked for it (ambient.py of the library `id`)."""
    monkeypatch.setattr(sigstore, "detect_credential", lambda: "no token")
    monkeypatch.setattr(sigstore, "_config", lambda where: where)
    for each in ("BUILDKITE", "CIRCLECI"):
        monkeypatch.setenv(each, "true" if each == variable else "")
    told = r"^signing keyless failed: IdentityError: .+" if asked else r"^there is no OIDC token"
    with pytest.raises(MvmnixError, match=told):
        sigstore.sign(b"{}", token=None, interactive=False, where=sigstore.Instance.STAGING)


def test_a_certificate_of_two_names_is_none_to_sign_for() -> None:
    """As whoever verifies it will say; what the library raises is an error of its own kind."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(f"{n}@mvmnix.test") for n in "ab"]), critical=True)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(VerificationError):
        sigstore._Names().verify(made)
