"""Reads the bodies of log entries, and says whether one is about a certain signature; pure.

What each kind names (rekor, pkg/types; rekor-tiles, CLIENTS.md), and so what the log vouches for:

- `dsse` 0.0.1 and 0.0.2: an envelope's payload by its SHA-256, its one signature, the key or certificate;
- `intoto` 0.0.2: the same, and the payload's type. Its `hash` is that of the envelope as the signer's tool wrote it,
  which is not in the bundle: it is not recomputed;
- `intoto` 0.0.1: no signature. It has the `hash` of the envelope in the signer's formatting, which covers payload,
  type and signature: it has to be that of one of the forms that tools of its time wrote, or the entry names nothing;
- `hashedrekord` 0.0.1: a file's SHA-256, a signature over it, the key or certificate;
- `hashedrekord` 0.0.2: either, where an envelope is meant by the digest of what DSSE signs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from mvmnix.provenance.bundle.verification_material import (
    LogEntry,
    decode_base64,
    hash_output,
    raw_bytes,
    some_bytes,
)
from mvmnix.provenance.identity import certificates


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an entry is about: who signed (SPKI or certificate in DER), by which signature, over what.

    `payload` is the SHA-256 of an envelope's payload, `signed` that of what the signature is over, `envelope` that of
    the whole envelope in its signer's formatting; None where the kind of entry doesn't name it.
    """

    verifier: bytes
    signature: bytes | None = None
    payload: Digest | None = None
    signed: Digest | None = None
    payload_type: str | None = None
    envelope: Digest | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What an entry has to be about. `envelopes` are the digests of the forms that an envelope may have had."""

    verifier: bytes
    signature: bytes
    payload: Digest | None
    signed: Digest | None
    payload_type: str | None = None
    envelopes: frozenset[Digest] = frozenset()

    def differences(self, found: Recorded) -> tuple[str, ...]:
        """What an entry says otherwise. It has to name the signature, or the envelope that it is in; and over what."""
        named = [name for name, a, b in (
            ("payload", self.payload, found.payload),
            ("file", self.signed, found.signed),
            ("payload type", self.payload_type, found.payload_type),
            ("signature", self.signature, found.signature),
        ) if b is not None and a != b]  # fmt: skip
        if found.signature is None and found.envelope not in self.envelopes:
            named.append("envelope, or one in another formatting than those that are known")
        if found.payload is None and found.signed is None and found.envelope is None:
            named.append("payload or file")
        return (*named, *([] if self.verifier == found.verifier else ["key or certificate"]))


def read(entry: LogEntry) -> Recorded:
    """What the body of an entry says. Raises MalformedError for one of an unknown kind, too."""
    parse = _KINDS.get((entry.kind, entry.version))
    if parse is None:
        raise strict.MalformedError(f"entries of the kind {entry.kind} {entry.version} are not known here")

    def body(record: strict.Record) -> Recorded:
        record.text("kind", entry.kind)
        record.text("apiVersion", entry.version.replace(".", r"\."))
        return record.child("spec", parse)

    return strict.read(strict.parse_json(entry.body, limit=BUNDLE_LIMIT), "body", body)


def _dsse(spec: strict.Record) -> Recorded:
    # of the envelope as it was submitted, in a formatting that the bundle doesn't have
    spec.child("envelopeHash", _hash)
    payload = spec.child("payloadHash", _hash)
    signature, verifier = _one(spec, _dsse_signature)
    return Recorded(verifier, signature, payload)


def _dsse_signature(record: strict.Record) -> tuple[bytes, bytes]:
    return some_bytes(record, "signature"), record.parsed("verifier", _pem, b"")


def _dsse_2(spec: strict.Record) -> Recorded:
    return spec.child("dsseV002", _dsse_2_content)


def _dsse_2_content(record: strict.Record) -> Recorded:
    payload = record.child("payloadHash", hash_output)
    signature, verifier = _one(record, _signature_2)
    return Recorded(verifier, signature, payload)


def _intoto_1(spec: strict.Record) -> Recorded:
    verifier = spec.parsed("publicKey", _pem, b"")
    envelope, payload = spec.child("content", _intoto_1_content)
    return Recorded(verifier, payload=payload, envelope=envelope)


def _intoto_1_content(content: strict.Record) -> tuple[Digest, Digest | None]:
    # the oldest entries have no hash of the payload (rekor, pkg/types/intoto/v0.0.1)
    payload = content.child("payloadHash", _hash) if content.has("payloadHash") else None
    return content.child("hash", _hash), payload


def _intoto_2(spec: strict.Record) -> Recorded:
    return spec.child("content", _intoto_2_content)


def _intoto_2_content(content: strict.Record) -> Recorded:
    if content.has("hash"):
        content.child("hash", _hash)
    payload = content.child("payloadHash", _hash)
    kind, signature, verifier = content.child("envelope", _intoto_envelope)
    return Recorded(verifier, signature, payload, payload_type=kind)


def _intoto_envelope(envelope: strict.Record) -> tuple[str, bytes, bytes]:
    kind = envelope.text("payloadType", r"[!-~]{1,255}")
    if envelope.has("payload"):
        envelope.text("payload", limit=BUNDLE_LIMIT)
    return kind, *_one(envelope, _intoto_signature)


def _intoto_signature(record: strict.Record) -> tuple[bytes, bytes]:
    if record.has("keyid"):
        record.text("keyid")
    # the signature is in base64 twice: once as DSSE has it, and once more as bytes
    twice = some_bytes(record, "sig")
    return decode_base64(twice.decode("ascii")), record.parsed("publicKey", _pem, b"")


def _hashedrekord(spec: strict.Record) -> Recorded:
    signed = spec.child("data", lambda data: data.child("hash", _hash))
    signature, verifier = spec.child("signature", _hashedrekord_signature)
    return Recorded(verifier, signature, signed=signed)


def _hashedrekord_signature(record: strict.Record) -> tuple[bytes, bytes]:
    verifier = record.child("publicKey", lambda key: key.parsed("content", _pem, b""))
    return some_bytes(record, "content"), verifier


def _hashedrekord_2(spec: strict.Record) -> Recorded:
    return spec.child("hashedRekordV002", _hashedrekord_2_content)


def _hashedrekord_2_content(record: strict.Record) -> Recorded:
    signed = record.child("data", hash_output)
    signature, verifier = record.child("signature", _signature_2)
    return Recorded(verifier, signature, signed=signed)


def _signature_2(record: strict.Record) -> tuple[bytes, bytes]:
    return some_bytes(record, "content"), record.child("verifier", _verifier_2)


def _verifier_2(record: strict.Record) -> bytes:
    record.text("keyDetails", r"[A-Z0-9_]{1,64}")
    return record.child("publicKey" if record.has("publicKey") else "x509Certificate", raw_bytes)


def _hash(record: strict.Record) -> Digest:
    record.text("algorithm", "sha256")
    return record.digest("value")


def _one(record: strict.Record, parse: Callable[[strict.Record], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The one signature that an entry is about, and who made it."""
    match record.each("signatures", parse, 1):
        case (found,):
            return found
        case _:
            raise ValueError("it is not about exactly one signature")


def _pem(text: str) -> bytes:
    """The DER of a certificate or public key that stands there in PEM in base64."""
    pem = decode_base64(text)
    try:
        if b"CERTIFICATE" in pem:
            return certificates.from_pem(pem).public_bytes(Encoding.DER)
        return load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UnsupportedAlgorithm as error:
        raise ValueError("a key of a kind that mvm does not know") from error


_KINDS: Final[dict[tuple[str, str], Callable[[strict.Record], Recorded]]] = {
    ("dsse", "0.0.1"): _dsse,
    ("dsse", "0.0.2"): _dsse_2,
    ("intoto", "0.0.1"): _intoto_1,
    ("intoto", "0.0.2"): _intoto_2,
    ("hashedrekord", "0.0.1"): _hashedrekord,
    ("hashedrekord", "0.0.2"): _hashedrekord_2,
}
#: Kinds of Rekor's second version, whose logs promise no time: a timestamp has to tell it.
TIMELESS: Final = frozenset({("dsse", "0.0.2"), ("hashedrekord", "0.0.2")})
