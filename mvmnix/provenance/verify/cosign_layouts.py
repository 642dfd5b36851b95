"""Puts what cosign attaches to images without a bundle into the words of one, so that it is verified as one; pure.

cosign, specs/SIGNATURE_SPEC.md and specs/ATTESTATION_SPEC.md. The layer of an attestation is a DSSE envelope, that of a
signature the text that it is over ("simple signing"), which names the image; the rest is in annotations:

- `dev.cosignproject.cosign/signature`: the signature, of an attestation empty;
- `dev.sigstore.cosign/certificate`, `…/chain`: the signer's certificate in PEM, and those above it, which are not read;
- `dev.sigstore.cosign/bundle`: the log's entry and its promise (SET); a proof there is none;
- `dev.sigstore.cosign/rfc3161timestamp`: a timestamp, over the signature, or over an attestation's whole envelope.

It becomes a bundle of version 0.1, whose entries have no proof. Nothing that is converted here is trusted by that.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from mvmnix.formats import strict
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from mvmnix.provenance.bundle.verification_material import LogEntry, encode_base64
from mvmnix.provenance.identity import certificates, rekor_body
from mvmnix.provenance.verify.registry_responses import Packed

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle+json;version=0.1"
_OWN: Final = "dev.cosignproject.cosign/signature"
_CERTIFICATE, _ENTRY, _STAMP = (f"dev.sigstore.cosign/{name}" for name in ("certificate", "bundle", "rfc3161timestamp"))
#: A hint that names no key: then it is the one that is trusted alone, or none (identity/trust.py).
_NAMELESS: Final = "cosign"
_BASE64: Final = r"[A-Za-z0-9+/]{1,65536}={0,2}"

type Json = dict[str, object]


def attestation(envelope: bytes, annotations: Mapping[str, str]) -> Packed:
    """An envelope that is a layer, with the annotations of that layer."""
    try:
        value = strict.parse_json(envelope, limit=BUNDLE_LIMIT)
        material = _material(annotations)
    except strict.MalformedError as error:
        return Packed(b"", problem=f"an attestation in cosign's layout can't be read: {error}")
    return Packed(_written(material, dsseEnvelope=value), stamped=envelope)


def signature(signed: bytes, annotations: Mapping[str, str]) -> Packed:
    """A text that is a layer, with the annotations of that layer, the signature among them."""
    made = annotations.get(_OWN, "")
    try:
        material = _material(annotations)
    except strict.MalformedError as error:
        return Packed(b"", problem=f"a signature in cosign's layout can't be read: {error}")
    digest = {"algorithm": "SHA2_256", "digest": encode_base64(hashlib.sha256(signed).digest())}
    data = _written(material, messageSignature={"messageDigest": digest, "signature": made})
    return Packed(data, signed=signed)


def _material(annotations: Mapping[str, str]) -> Json:
    """Raises MalformedError."""
    entry = annotations.get(_ENTRY, "")
    entries = [_read(entry, _ENTRY, _entry)] if entry else []
    material: Json = {"tlogEntries": [each.to_value() for each in entries]}
    if certificate := annotations.get(_CERTIFICATE, ""):
        material["certificate"] = {"rawBytes": encode_base64(_der(certificate))}
    else:
        material["publicKey"] = {"hint": _hint(entries)}
    if stamp := annotations.get(_STAMP, ""):
        token = _read(stamp, _STAMP, lambda it: it.text("SignedRFC3161Timestamp", _BASE64))
        material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": token}]}
    return material


def _read[T](text: str, name: str, parse: Callable[[strict.Record], T]) -> T:
    return strict.read(strict.parse_json(text.encode(), limit=BUNDLE_LIMIT), name, parse)


def _entry(record: strict.Record) -> LogEntry:
    """cosign, pkg/cosign/bundle/rekor.go."""
    promise = record.parsed("SignedEntryTimestamp", _decoded, b"")
    return record.child("Payload", lambda it: _promised(it, promise))


def _promised(record: strict.Record, promise: bytes) -> LogEntry:
    body = record.parsed("body", _decoded, b"", BUNDLE_LIMIT)
    kind, version = strict.read(strict.parse_json(body, limit=BUNDLE_LIMIT), "body", _kind)
    return LogEntry(
        record.integer("logIndex", 0, strict.MAX_INTEGER),
        record.digest("logID").raw,
        kind,
        version,
        record.integer("integratedTime", 0, strict.MAX_INTEGER),
        promise,
        None,
        body,
    )


def _kind(record: strict.Record) -> tuple[str, str]:
    found = record.text("kind"), record.text("apiVersion")
    record.leave_rest()
    return found


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _der(pem: str) -> bytes:
    try:
        return certificates.from_pem(pem.encode()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise strict.MalformedError(f"{_CERTIFICATE}: {error}") from error


def _hint(entries: list[LogEntry]) -> str:
    """The key that the log names; which is then verified like any other that a bundle names."""
    for entry in entries:
        return encode_base64(hashlib.sha256(rekor_body.read(entry).verifier).digest())
    return _NAMELESS


def _written(material: Json, **content: object) -> bytes:
    return json.dumps({"mediaType": _MEDIA_TYPE, "verificationMaterial": material, **content}).encode()
