"""The only importer of `sigstore`: asks whom a trust domain certified, and has the library sign for an OIDC identity.

Importing it costs a third of a second, so it is imported only where a bundle has a certificate or somebody signs
keyless. Only its public interface is used. Of what it raises nothing gets out but UncertifiedError and MvmnixError.

The library verifies: the certificate's chain at the time, its SCT and usages; the log's proof, checkpoint and promise;
the entry's body; the signature. It does not look at the ends of `validFor`, and lets a broken timestamp pass beside a
good promise. So it is asked once for each source of time alone, with those parts of the root that were trusted then.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Final

from cryptography import x509
from sigstore.dsse import Statement
from sigstore.errors import VerificationError
from sigstore.hashes import Hashed
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.oidc import IdentityToken, Issuer, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier

from mvmnix import strict
from mvmnix.errors import MvmnixError
from mvmnix.model import Digest
from mvmnix.provenance import trusted_root
from mvmnix.provenance.trusted_root import LISTS, Selection

#: Fulcio's extensions (fulcio, docs/oid-info.md): the issuer as UTF8String, as raw text; a SAN that is neither email
#: address nor URI.
_ISSUER_V2: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER_V1: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_USER_NAME: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
#: No service is asked when a bundle is verified, and so none is named.
_NO_SERVICES: Final = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"}
_ALWAYS: Final = {"start": "1970-01-01T00:00:00Z"}
_CONFIG: Final = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"


@dataclass(frozen=True, slots=True)
class Certified:
    """Whom a trust domain certified, by SAN and OIDC issuer, and when it saw the signature."""

    subject: str
    issuer: str
    time: datetime


class Doubt(StrEnum):
    """What an UncertifiedError is about, as far as we know it."""

    NAMES = "names"
    TIMESTAMP = "timestamp"
    WINDOW = "window"
    OTHER = "other"


class UncertifiedError(Exception):
    """The library does not stand for a bundle; `when` is the time that it was asked about, if there was one."""

    def __init__(self, doubt: Doubt, why: str, when: datetime | None = None) -> None:
        super().__init__(why)
        self.doubt = doubt
        self.why = why
        self.when = when


class _NamesError(VerificationError):
    """A certificate names nobody, or several."""


class _Names:
    """The library's verification policy: exactly one subject, exactly one issuer. Who they may be is said elsewhere."""

    def __init__(self) -> None:
        self.found = ("", "")

    def verify(self, cert: x509.Certificate) -> None:
        """Called by the library once it trusts the certificate."""
        values = {each.oid: each.value for each in cert.extensions}
        self.found = (_subject(values), _issuer(values))


def certified(bundle: bytes, *, root: bytes, moment: datetime | None, file: Digest | None) -> Certified:
    """Ask the library about a bundle that has one source of time.

    `moment` is the time that the log promises, None when a timestamp tells it; `file` the digest of the file that a
    message signature is over, None for an envelope. Raises UncertifiedError.
    """
    when = moment
    try:
        parsed = Bundle.from_json(bundle)
        when = moment or _stamped(parsed)
        return _asked_then(parsed, root, when, file)
    except UncertifiedError:
        raise
    except _NamesError as error:
        raise UncertifiedError(Doubt.NAMES, str(error), when) from error
    except Exception as error:
        raise UncertifiedError(_doubt(error, when), f"{type(error).__name__}: {error}", when) from error


def _asked_then(bundle: Bundle, root: bytes, when: datetime, file: Digest | None) -> Certified:
    selection = trusted_root.parse(root).at(when)
    try:
        return _asked(bundle, _verifier(root, selection), when, file)
    except Exception as error:
        if all(all(each) for each in selection):
            raise
        _asked(bundle, _verifier(root, None), when, file)
        why = f"it is of {strict.show_time(when)}, when an authority or log of the trust root was not trusted"
        raise UncertifiedError(Doubt.WINDOW, why, when) from error


def _doubt(error: Exception, when: datetime | None) -> Doubt:
    """Whether it is a timestamp that does not hold: the library has one exception for many things."""
    no_time = when is None or "verified time" in str(error)
    return Doubt.TIMESTAMP if no_time else Doubt.OTHER


def _asked(bundle: Bundle, verifier: Verifier, when: datetime, file: Digest | None) -> Certified:
    names = _Names()
    if file is None:
        verifier.verify_dsse(bundle, names)
    else:
        hashed = Hashed.model_validate({"algorithm": "SHA2_256", "digest": file.raw})
        verifier.verify_artifact(hashed, bundle, names)
    return Certified(*names.found, when)


def _stamped(bundle: Bundle) -> datetime:
    data = bundle.verification_material.timestamp_verification_data
    stamps = [] if data is None else data.rfc3161_timestamps
    if len(stamps) != 1:
        raise ValueError(f"{len(stamps)} timestamps, not one")
    return stamps[0].tst_info.gen_time


@lru_cache(maxsize=32)
def _verifier(root: bytes, selection: Selection | None) -> Verifier:
    """A verifier of these parts of the root; for None, of all of it as if it had always been trusted."""
    value = json.loads(root)
    for name, kept in zip(LISTS, selection or (None,) * len(LISTS), strict=True):
        parts = value.get(name, [])
        value[name] = parts if kept is None else [one for one, holds in zip(parts, kept, strict=True) if holds]
        if kept is None:
            # the library does look at those of timestamp authorities itself
            value[name] = [one | ({"validFor": _ALWAYS} if "validFor" in one else {}) for one in parts]
    config = {"mediaType": _CONFIG, "trustedRoot": value, "signingConfig": _NO_SERVICES}
    return Verifier(trusted_root=_remembering(ClientTrustConfig.from_json(json.dumps(config)).trusted_root))


def _remembering(root: TrustedRoot) -> TrustedRoot:
    """The same, which reads the keys of its logs once: the library asks it for them at each verification."""
    for name in ("rekor_keyring", "ct_keyring"):
        setattr(root, name, lru_cache(getattr(root, name)))
    return root


def _subject(values: Mapping[x509.ObjectIdentifier, x509.ExtensionType]) -> str:
    names = values.get(x509.SubjectAlternativeName.oid)
    found = list(names) if isinstance(names, x509.SubjectAlternativeName) else []
    match found:
        case [x509.RFC822Name() | x509.UniformResourceIdentifier() as name]:
            return name.value
        case [x509.OtherName() as name] if name.type_id == _USER_NAME:
            return _utf8(name.value)
        case _:
            raise _NamesError(f"the certificate names {len(found)} subjects, or one of a kind that nobody here knows")


def _issuer(values: Mapping[x509.ObjectIdentifier, x509.ExtensionType]) -> str:
    found = set()
    if isinstance(value := values.get(_ISSUER_V2), x509.UnrecognizedExtension):
        found.add(_utf8(value.value))
    if isinstance(value := values.get(_ISSUER_V1), x509.UnrecognizedExtension):
        found.add(value.value.decode())
    if len(found) != 1:
        raise _NamesError(f"the certificate names {len(found)} OIDC issuers, not one")
    return found.pop()


def _utf8(der: bytes) -> str:
    """The text of a UTF8String of up to 65,535 bytes in DER (X.690, sections 8.1 and 10.1: the shortest length)."""
    for head in (2, 3, 4):
        text = der[head:]
        with suppress(UnicodeDecodeError):
            if der[:head] == b"\x0c" + _length(len(text)):
                return text.decode()
    raise _NamesError("the certificate names somebody in another form than UTF-8")


def _length(count: int) -> bytes:
    """A length in DER; nothing for one that takes more than two bytes, which no name has."""
    if count < 0x80:
        return count.to_bytes(1)
    if count < 0x100:
        return b"\x81" + count.to_bytes(1)
    return b"\x82" + count.to_bytes(2) if count < 0x10000 else b""


class Instance(StrEnum):
    """Sigstore instances that the library knows by itself."""

    PRODUCTION = "production"
    STAGING = "staging"


def shipped_root(instance: Instance = Instance.PRODUCTION) -> bytes:
    """The trusted_root.json of a public instance that the installed library ships; nothing is fetched."""
    stores = [each for each in (files("sigstore") / "_store").iterdir() if (each / "trusted_root.json").is_file()]
    found = [each for each in stores if ("sigstage" in each.name) == (instance is Instance.STAGING)]
    if len(found) != 1:
        raise MvmnixError("the installed sigstore library ships no trust root", hint="name one: --trusted-root FILE")
    return (found[0] / "trusted_root.json").read_bytes()


def public_good_root() -> bytes:
    """The trusted_root.json of the public-good instance that the installed library ships; nothing is fetched."""
    return shipped_root(Instance.PRODUCTION)


def sign(payload: bytes, *, token: str | None, interactive: bool, where: Instance | bytes) -> bytes:
    """Have an in-toto statement signed for an OIDC identity: certified, logged, and looked at once more. Bundle bytes.

    `where` is a public instance, whose current services are fetched, or the text of a trust configuration
    (`ClientTrustConfig`). Without a `token` the identity is that of the CI job this runs in, or else, if that is
    possible (`interactive`), of whoever logs in in a browser. Raises MvmnixError.
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
        raise ValueError(" ".join(told[1:3] if len(told) > 2 else told)) from error


def _config(where: Instance | bytes) -> ClientTrustConfig:
    match where:
        case Instance.PRODUCTION:
            return ClientTrustConfig.production()
        case Instance.STAGING:
            return ClientTrustConfig.staging()
        case bytes():
            return ClientTrustConfig.from_json(where.decode())


def _identity(token: str | None, *, interactive: bool, config: ClientTrustConfig) -> IdentityToken:
    if raw := token or detect_credential():
        return IdentityToken(raw)
    if not interactive:
        hint = "--identity-token env:NAME or file:PATH; in CI, let the job have a token (id-token: write)"
        raise MvmnixError("there is no OIDC token, and nobody at a terminal to log in", hint=hint)
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
