"""The only importer of `sigstore`: has the library sign for an OIDC identity, and reads the trust roots it ships.

Importing it costs a third of a second, so it is imported only to sign keyless, or for a root where none was named. Only
its public interface is used. Of what it raises nothing gets out but MvmnixError. What is signed elsewhere it does not
verify: transparency.py does.

Its HTTP clients, requests and urllib3, are told to ask for answers without a content coding (RFC 9110, section 8.4) and
to unpack none: a packed answer of any size would lie in this process's memory.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.resources import files

import requests.utils
from cryptography.x509 import Certificate
from sigstore.dsse import Statement
from sigstore.errors import VerificationError
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken, Issuer, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from urllib3.response import BaseHTTPResponse

from mvmnix.errors import MvmnixError
from mvmnix.provenance.identity.certificate_names import names

vars(requests.utils)["DEFAULT_ACCEPT_ENCODING"] = "identity"
BaseHTTPResponse.CONTENT_DECODERS = []


class _Names:
    """The library's verification policy: exactly one subject, exactly one issuer."""

    def verify(self, cert: Certificate) -> None:
        """Called by the library once it trusts the certificate."""
        try:
            names(cert)
        except ValueError as error:
            raise VerificationError(str(error)) from error


class Instance(StrEnum):
    """Sigstore instances that the library knows by itself."""

    PRODUCTION = "production"
    STAGING = "staging"


def public_good_root() -> bytes:
    """The trusted_root.json of the public-good instance that the installed library ships; nothing is fetched."""
    stores = [each for each in (files("sigstore") / "_store").iterdir() if (each / "trusted_root.json").is_file()]
    match [each for each in stores if "sigstage" not in each.name]:
        case [only]:
            return (only / "trusted_root.json").read_bytes()
        case _:
            hint = "name one: --trusted-root FILE"
            raise MvmnixError("the installed sigstore library ships no trust root", hint=hint)


def sign(payload: bytes, *, token: str | None, interactive: bool, where: Instance | bytes) -> bytes:
    """Have an in-toto statement signed for an OIDC identity: certified, logged, and looked at once more. Bundle bytes.

    `where` is a public instance, whose current services are fetched, or the text of a trust configuration
    (`ClientTrustConfig`). Without a `token` the identity is that of the CI job this runs in, or else, if that is
    possible (`interactive`), of the user who logs in in a browser. Raises MvmnixError.
    """
    with _only_failures("signing keyless"):
        config = _config(where)
        identity = _identity(token, interactive=interactive, config=config)
        with SigningContext.from_trust_config(config).signer(identity) as signer:
            bundle = signer.sign_dsse(Statement(payload))
        Verifier(trusted_root=config.trusted_root).verify_dsse(bundle, _Names())
        return bundle.to_json().encode()


def look_at_config(text: bytes) -> None:
    """Raise ValueError unless that is a trust configuration (`ClientTrustConfig`) that says where to sign now."""
    try:
        SigningContext.from_trust_config(_config(text))
    except Exception as error:
        # of what pydantic tells, which is a page, the first place and what is wrong there
        told = [line.strip().partition(" [type=")[0] for line in str(error).splitlines()]
        raise ValueError(" ".join(told[1:3] or told)) from error


def _config(where: Instance | bytes) -> ClientTrustConfig:
    match where:
        case Instance.PRODUCTION:
            return ClientTrustConfig.production()
        case Instance.STAGING:
            return ClientTrustConfig.staging()
        case bytes():
            return ClientTrustConfig.from_json(where.decode())


def _identity(token: str | None, *, interactive: bool, config: ClientTrustConfig) -> IdentityToken:
    # on these two the library would ask a program that it finds by the caller's PATH (id: ambient.py)
    asks_a_program = any(os.environ.get(name) for name in ("BUILDKITE", "CIRCLECI"))
    if raw := token or (None if asks_a_program else detect_credential()):
        return IdentityToken(raw)
    if not interactive:
        hint = "--identity-token env:NAME or file:PATH; in CI, let the job have a token (id-token: write)"
        raise MvmnixError("there is no OIDC token, and no terminal to log in at", hint=hint)
    return Issuer(config.signing_config.get_oidc_url()).identity_token()


@contextmanager
def _only_failures(what: str) -> Iterator[None]:
    try:
        yield
    except MvmnixError:
        raise
    except Exception as error:
        hint = "look whether token, services and clock are right, and try again"
        # the library often keeps to itself what is wrong with a token, or what a service answered
        told = [f"{type(one).__name__}: {one}".rstrip(": ") for one in (error, error.__cause__) if one is not None]
        raise MvmnixError(f"{what} failed: {'; '.join(told)}", hint=hint) from error
