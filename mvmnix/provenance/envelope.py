"""Wraps a statement and its signature as a Sigstore bundle with a DSSE envelope, signed by a plain key; reads it back.

DSSE is secure-systems-lab/dsse, protocol.md; the bundle is protobuf-specs, sigstore_bundle.proto, media type v0.3. Key
mode has no certificate, no log entry and no trusted time: `publicKey.hint` names the key by base64(SHA-256(SPKI)), as
`cosign` does. There is exactly one signature. Reading proves nothing: provenance/verify.py verifies.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from mvmnix import strict
from mvmnix.errors import ReasonCode, refuse
from mvmnix.keys import PrivateKey
from mvmnix.model import Digest
from mvmnix.provenance.statement import PAYLOAD_TYPE

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
#: base64 of the largest statement, with room for the rest.
LIMIT: Final = 24 * 2**20

_WHAT: Final = "the bundle"
_HINT: Final = "have the claim signed again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A payload with one signature; `hint` says which key is claimed to have made it."""

    payload: bytes
    payload_type: str
    signature: bytes
    hint: str

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over: DSSE's pre-authentication encoding of type and payload."""
        return pae(self.payload_type, self.payload)

    def to_bytes(self) -> bytes:
        """The bundle in canonical JSON, as mvm writes it."""
        return strict.canonical(
            {
                "mediaType": MEDIA_TYPE,
                "verificationMaterial": {"publicKey": {"hint": self.hint}},
                "dsseEnvelope": {
                    "payload": base64.b64encode(self.payload).decode(),
                    "payloadType": self.payload_type,
                    "signatures": [{"keyid": "", "sig": base64.b64encode(self.signature).decode()}],
                },
            }
        )

    @property
    def digest(self) -> Digest:
        """The digest of the canonical bytes, by which plans, receipts and the log name the bundle."""
        return Digest.of(self.to_bytes())


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding, version 1.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload))


def sign(payload: bytes, key: PrivateKey) -> Bundle:
    """Sign the bytes of an in-toto statement."""
    signature = key.sign(pae(PAYLOAD_TYPE, payload))
    return Bundle(payload, PAYLOAD_TYPE, signature, key.public.hint)


def parse(data: bytes) -> Bundle:
    """Read a bundle in any formatting. Raises RefusedError BUNDLE_MALFORMED, or UNSIGNED when nobody signed."""
    try:
        bundle = strict.read(strict.parse_json(data, limit=LIMIT), "bundle", _bundle)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.BUNDLE_MALFORMED, _WHAT, _HINT) from error
    if bundle is None:
        raise refuse(ReasonCode.UNSIGNED, _WHAT, "it carries no signature", "sign it: `mvm plan sign` for a plan")
    return bundle


def _bundle(record: strict.Record) -> Bundle | None:
    record.text("mediaType", MEDIA_TYPE.replace(".", r"\.").replace("+", r"\+"))
    hint = record.child("verificationMaterial", _hint)
    return record.child("dsseEnvelope", lambda envelope: _envelope(envelope, hint))


def _hint(material: strict.Record) -> str:
    # key mode has no log entries; an empty list is how some writers say so
    if material.has("tlogEntries") and material.array("tlogEntries"):
        raise ValueError("it has log entries, which a claim signed by a plain key has not")
    return material.child("publicKey", lambda key: key.text("hint", r"[A-Za-z0-9+/]{43}="))


def _envelope(envelope: strict.Record, hint: str) -> Bundle | None:
    payload = envelope.parsed("payload", _base64, b"", LIMIT)
    payload_type = envelope.text("payloadType", r"[!-~]{1,255}")
    signatures = envelope.each("signatures", _signature, 16)
    if len(signatures) > 1:
        raise ValueError("it has more than one signature")
    if not signatures or not signatures[0]:
        return None
    return Bundle(payload, payload_type, signatures[0], hint)


def _signature(record: strict.Record) -> bytes:
    if record.has("keyid"):
        record.text("keyid", "")
    return record.parsed("sig", _base64, b"")


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if base64.b64encode(data).decode() != text:
        raise ValueError("not the only base64 of these bytes")
    return data
