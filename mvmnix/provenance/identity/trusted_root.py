"""Reads trusted_root.json: which logs and authorities a trust domain trusts, and from when to when; pure.

The format is protobuf-specs' sigstore_trustroot.proto in Protobuf's JSON. Whose file it is, the policy says by its
SHA-256; what is in it is trusted for that domain alone, and two of them are never put together. Protobuf leaves out
what is empty, and so may a file. A log or authority whose key, hash or certificate is missing or of an unknown kind
vouches for nothing, and takes nothing from the others. But each has to say since when it is trusted: `TimeRange` has an
optional end and a start that is not, and a missing one read as "always" would trust more than the file says.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.provenance.bundle.verification_material import raw_bytes, some_bytes, without_nulls

#: protobuf-specs, sigstore_common.proto, `PublicKeyDetails`: those with an elliptic curve that are not deprecated.
_EC: Final = {
    "PKIX_ECDSA_P256_SHA_256": ("secp256r1", hashes.SHA256()),
    "PKIX_ECDSA_P384_SHA_384": ("secp384r1", hashes.SHA384()),
    "PKIX_ECDSA_P521_SHA_512": ("secp521r1", hashes.SHA512()),
}
_ED25519: Final = "PKIX_ED25519"

type _Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log's public key: SubjectPublicKeyInfo in DER, and the name of its kind (`PublicKeyDetails`)."""

    spki: bytes
    details: str

    def verified(self, message: bytes, signature: bytes) -> bytes:
        """The message, now known to be signed by this key. Raises ValueError."""
        key = _load(self.spki, self.details)
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(_EC[self.details][1]))
        except InvalidSignature as error:
            raise ValueError("the log's key did not make the signature") from error
        return message


@lru_cache(maxsize=64)
def _load(spki: bytes, details: str) -> _Key:
    try:
        key = load_der_public_key(spki)
    except UnsupportedAlgorithm as error:
        raise ValueError("the log's key is of a kind that mvm does not know") from error
    if details == _ED25519 and isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _EC.get(details, ("", None))[0]:
        return key
    raise ValueError(f"the log's key is not one of the kind {details} that can be checked here")


LIMIT: Final = 4 * 2**20
_MEDIA: Final = r"application/vnd\.dev\.sigstore\.trustedroot(\+json;version=0\.1|\.v0\.[12]\+json)"
_HINT: Final = "get the trusted_root.json again from the operator of that Sigstore"
_NAME: Final = r"[A-Z0-9_]{1,64}"
_TEXT: Final = r"[^\x00]{0,4096}"


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when something is trusted, both ends included; without an end, until further notice."""

    start: datetime
    end: datetime | None = None

    def holds(self, moment: datetime) -> bool:
        """Whether that moment lies within."""
        return self.start <= moment and (self.end is None or moment <= self.end)


@dataclass(frozen=True, slots=True)
class Log:
    """A transparency log or CT log, by its ID."""

    log_id: bytes
    key: LogKey
    window: Window


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority or timestamp authority: its certificates in DER, nearest to the leaf first."""

    certificates: tuple[bytes, ...]
    window: Window


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """One trust domain."""

    logs: tuple[Log, ...]
    authorities: tuple[Authority, ...]
    ct_logs: tuple[Log, ...]
    timestamping: tuple[Authority, ...]

    def log(self, log_id: bytes) -> Log | None:
        """The transparency log with that ID."""
        return next((log for log in self.logs if log.log_id == log_id), None)

    @property
    def newest(self) -> datetime | None:
        """When the youngest of its entries began to be trusted: it is no older than that. None where it has none."""
        lists: tuple[Iterable[Log | Authority], ...] = (self.logs, self.authorities, self.ct_logs, self.timestamping)
        return max((one.window.start for each in lists for one in each), default=None)


@lru_cache(maxsize=16)
def parse(data: bytes) -> TrustedRoot:
    """Read a trusted_root.json. Raises RefusedError ROOT_MALFORMED, naming all problems."""
    try:
        return strict.read(without_nulls(strict.parse_json(data, limit=LIMIT)), "root", _root)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.ROOT_MALFORMED, f"the trust root {Digest.of(data)}", _HINT) from error


def _root(record: strict.Record) -> TrustedRoot:
    record.text("mediaType", _MEDIA)
    return TrustedRoot(
        _each(record, "tlogs", _log),
        _each(record, "certificateAuthorities", _authority),
        _each(record, "ctlogs", _log),
        _each(record, "timestampAuthorities", _authority),
    )


def _each[T](record: strict.Record, name: str, parse: Callable[[strict.Record], T]) -> tuple[T, ...]:
    return record.each(name, parse, 64) if record.has(name) else ()


def _log(record: strict.Record) -> Log:
    _optional(record, "baseUrl")
    _optional(record, "operator")
    hashes = record.text("hashAlgorithm", _NAME) if record.has("hashAlgorithm") else "SHA2_256"
    key, window = record.child("publicKey", _public)
    # the ID of a log is the SHA-256 of its key (RFC 6962, section 3.2), where nothing else is said
    log_id = record.child("logId", _key_id) if record.has("logId") else Digest.of(key.spki).raw
    if record.has("checkpointKeyId"):
        record.child("checkpointKeyId", _key_id)
    return Log(log_id, key if hashes == "SHA2_256" else replace(key, details=hashes), window)


def _key_id(record: strict.Record) -> bytes:
    return some_bytes(record, "keyId")


def _public(record: strict.Record) -> tuple[LogKey, Window]:
    spki = some_bytes(record, "rawBytes") if record.has("rawBytes") else b""
    details = record.text("keyDetails", _NAME) if record.has("keyDetails") else ""
    return LogKey(spki, details), record.child("validFor", _window)


def _authority(record: strict.Record) -> Authority:
    if record.has("subject"):
        record.child("subject", _subject)
    _optional(record, "uri")
    _optional(record, "operator")
    certificates = record.child("certChain", _chain) if record.has("certChain") else ()
    return Authority(certificates, record.child("validFor", _window))


def _chain(record: strict.Record) -> tuple[bytes, ...]:
    return record.each("certificates", raw_bytes, 16) if record.has("certificates") else ()


def _subject(record: strict.Record) -> None:
    _optional(record, "organization")
    _optional(record, "commonName")


def _optional(record: strict.Record, name: str) -> None:
    if record.has(name):
        record.text(name, _TEXT)


def _window(record: strict.Record) -> Window:
    return Window(_moment(record, "start"), _moment(record, "end") if record.has("end") else None)


def _moment(record: strict.Record, name: str) -> datetime:
    return record.parsed(name, _timestamp, datetime.max)


def _timestamp(text: str) -> datetime:
    """Protobuf's Timestamp: RFC 3339 in UTC, with or without a fraction."""
    if not text.endswith("Z"):
        raise ValueError("not a time in UTC")
    return datetime.fromisoformat(text)
