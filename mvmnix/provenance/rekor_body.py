"""Reads the bodies of log entries, and says whether one is about a certain signature; pure.

Kinds: `dsse` 0.0.1 and `intoto` 0.0.2 hold an envelope's payload by its SHA-256, its one signature and the key or
certificate; `hashedrekord` 0.0.1 a file's digest, a signature over it, and the key or certificate; `hashedrekord` 0.0.2
either, where an envelope is meant by the digest of what DSSE signs. (rekor, pkg/types; rekor-tiles, CLIENTS.md.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from mvmnix import strict
from mvmnix.model import Digest
from mvmnix.provenance import certificates
from mvmnix.provenance.envelope import LIMIT
from mvmnix.provenance.material import Entry, decode, hash_output, raw_bytes, some_bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an entry is about, or has to be: signature, who made it (SPKI or certificate in DER), and over what.

    `payload` is the SHA-256 of an envelope's payload, `signed` that of what the signature is over; None where the kind
    of entry says nothing of it.
    """

    signature: bytes
    verifier: bytes
    payload: Digest | None
    signed: Digest | None

    def differences(self, found: "Recorded") -> tuple[str, ...]:
        """What an entry says otherwise. Nothing is compared of which it says nothing, but one digest it has to name."""
        named = [name for name, a, b in (("payload", self.payload, found.payload), ("file", self.signed, found.signed))
                 if b is not None and a != b]  # fmt: skip
        if found.payload is None and found.signed is None:
            named.append("payload or file")
        named += [] if self.signature == found.signature else ["signature"]
        return (*named, *([] if self.verifier == found.verifier else ["key or certificate"]))


def read(entry: Entry) -> Recorded:
    """What the body of an entry says. Raises MalformedError for one of an unknown kind, too."""
    parse = _KINDS.get((entry.kind, entry.version))
    if parse is None:
        raise strict.MalformedError(f"entries of the kind {entry.kind} {entry.version} are not known here")

    def body(record: strict.Record) -> Recorded:
        record.text("kind", entry.kind)
        record.text("apiVersion", entry.version.replace(".", r"\."))
        return record.child("spec", parse)

    return strict.read(strict.parse_json(entry.body, limit=LIMIT), "body", body)


def _dsse(spec: strict.Record) -> Recorded:
    # the hash of the envelope as it was submitted: in whose formatting, nobody knows any more
    spec.child("envelopeHash", _hash)
    payload = spec.child("payloadHash", _hash)
    signatures = spec.each("signatures", _dsse_signature, 4)
    return Recorded(*_one(signatures), payload, None)


def _dsse_signature(record: strict.Record) -> tuple[bytes, bytes]:
    return some_bytes(record, "signature"), record.parsed("verifier", _pem, b"")


def _intoto(spec: strict.Record) -> Recorded:
    return spec.child("content", _intoto_content)


def _intoto_content(content: strict.Record) -> Recorded:
    if content.has("hash"):
        content.child("hash", _hash)
    payload = content.child("payloadHash", _hash)
    return Recorded(*content.child("envelope", _intoto_envelope), payload, None)


def _intoto_envelope(envelope: strict.Record) -> tuple[bytes, bytes]:
    envelope.text("payloadType", r"[!-~]{1,255}")
    if envelope.has("payload"):
        envelope.text("payload", limit=LIMIT)
    return _one(envelope.each("signatures", _intoto_signature, 4))


def _intoto_signature(record: strict.Record) -> tuple[bytes, bytes]:
    if record.has("keyid"):
        record.text("keyid")
    # the signature is in base64 twice: once as DSSE has it, and once more as bytes
    twice = some_bytes(record, "sig")
    return decode(twice.decode("ascii")), record.parsed("publicKey", _pem, b"")


def _hashedrekord(spec: strict.Record) -> Recorded:
    signed = spec.child("data", lambda data: data.child("hash", _hash))
    return Recorded(*spec.child("signature", _hashedrekord_signature), None, signed)


def _hashedrekord_signature(record: strict.Record) -> tuple[bytes, bytes]:
    verifier = record.child("publicKey", lambda key: key.parsed("content", _pem, b""))
    return some_bytes(record, "content"), verifier


def _hashedrekord_2(spec: strict.Record) -> Recorded:
    return spec.child("hashedRekordV002", _hashedrekord_2_content)


def _hashedrekord_2_content(record: strict.Record) -> Recorded:
    signed = record.child("data", hash_output)
    return Recorded(*record.child("signature", _signature_2), None, signed)


def _signature_2(record: strict.Record) -> tuple[bytes, bytes]:
    return some_bytes(record, "content"), record.child("verifier", _verifier_2)


def _verifier_2(record: strict.Record) -> bytes:
    record.text("keyDetails", r"[A-Z0-9_]{1,64}")
    return record.child("publicKey" if record.has("publicKey") else "x509Certificate", raw_bytes)


def _hash(record: strict.Record) -> Digest:
    record.text("algorithm", "sha256")
    return record.digest("value")


def _one(signatures: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, bytes]:
    if len(signatures) != 1:
        raise ValueError("it is not about exactly one signature")
    return signatures[0]


def _pem(text: str) -> bytes:
    """The DER of a certificate or public key that stands there in PEM in base64."""
    pem = decode(text)
    try:
        if b"CERTIFICATE" in pem:
            return certificates.from_pem(pem).public_bytes(Encoding.DER)
        return load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UnsupportedAlgorithm as error:
        raise ValueError("a key of a kind that nobody here knows") from error


_KINDS: Final[dict[tuple[str, str], Callable[[strict.Record], Recorded]]] = {
    ("dsse", "0.0.1"): _dsse,
    ("intoto", "0.0.2"): _intoto,
    ("hashedrekord", "0.0.1"): _hashedrekord,
    ("hashedrekord", "0.0.2"): _hashedrekord_2,
}
