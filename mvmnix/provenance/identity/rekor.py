"""Says why a log entry does not show that a transparency log holds a signature; nothing when it does; pure.

These are steps 3.3 and 3.4 of transparency.py. What a log signs: an inclusion promise (SET, signed entry timestamp)
over canonical JSON (RFC 8785; integers and ASCII only) of body, time, log and index; and checkpoints (C2SP
tlog-checkpoint in a signed note) over size and root of its Merkle tree (RFC 6962), to which an inclusion proof leads.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from mvmnix.audit.merkle import HASH_SIZE, leaf_hash
from mvmnix.audit.merkle_proof import root_by_inclusion
from mvmnix.formats import strict
from mvmnix.model import Digest
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from mvmnix.provenance.bundle.verification_material import (
    LogEntry,
    Proof,
    decode_base64,
    encode_base64,
    hash_output,
    raw_bytes,
    some_bytes,
)
from mvmnix.provenance.identity import certificates
from mvmnix.provenance.identity.trusted_root import Log, TrustedRoot

_SIGNATURE: Final = re.compile("\u2014 ([^\\s+]{1,255}) ([A-Za-z0-9+/]+={0,2})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log signed of its tree: `text`. A signature under it is a key's name, 4 bytes of its ID, and bytes."""

    text: bytes
    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def parse(cls, note: str) -> "Checkpoint":
        """Read a note. Lines after the third are extensions. Raises ValueError."""
        text, _, block = note.rpartition("\n\n")
        lines = text.split("\n")
        if not block.endswith("\n") or len(lines) < 3 or not lines[0]:
            raise ValueError("not a signed note with origin, size and root")
        if not _SIZE.fullmatch(lines[1]):
            raise ValueError("its size is not a number")
        found = [_SIGNATURE.fullmatch(line) for line in block.removesuffix("\n").split("\n")]
        signatures = [(one[1], decode_base64(one[2])) for one in found if one is not None]
        if len(signatures) != len(found) or any(len(raw) < 5 for _, raw in signatures):
            raise ValueError("a line under it is not a signature")
        parts = tuple((name, raw[:4], raw[4:]) for name, raw in signatures)
        return cls(f"{text}\n".encode(), lines[0], int(lines[1]), decode_base64(lines[2]), parts)

    def signature_of(self, log: Log) -> tuple[str, bytes]:
        """Name and bytes of the log's own signature; those of others (witnesses) are left alone. Raises ValueError."""
        # the key's ID in a note is the beginning of its log's, in Rekor's first version as in its second
        ours = [(name, signature) for name, key, signature in self.signatures if key == log.log_id[:4]]
        match ours:
            case [only]:
                return only
            case _:
                raise ValueError(f"{len(ours)} signatures of the log stand under it, not one")


def root_of(body: bytes, proof: Proof) -> bytes:
    """The root to which a path leads (RFC 9162, section 2.1.3.2). Raises ValueError.

    >>> root_of(b"a", Proof(0, 1, b"", (), "")) == leaf_hash(b"a")
    True
    """
    if not 0 <= proof.index < proof.size:
        raise ValueError(f"there is no leaf {proof.index} in a tree of {proof.size}")
    if {*map(len, proof.hashes)} - {HASH_SIZE}:
        raise ValueError("its path holds something that is not a hash")
    return root_by_inclusion(leaf_hash(body), proof.index, proof.size, proof.hashes)


def incoherences(entry: LogEntry, root: TrustedRoot) -> Iterator[str]:
    """What contradicts itself in an entry, regardless of who signed what: things that no signature covers."""
    if entry.promise is None and entry.integrated:
        yield "it names a time that the log did not promise"
    if entry.promise is None and entry.proof is None:
        yield "it has neither a proof nor the log's promise"
    if entry.promise is None and entry.proof is not None and entry.index != entry.proof.index:
        yield "the log did not promise its index, which is not that of the proof"
    log = root.log(entry.log_id)
    if log is None:
        yield f"no log of the trust root has the ID {entry.log_id.hex()}"
    elif entry.proof is not None:
        yield from _other_tree(entry.proof, log)


def _other_tree(proof: Proof, log: Log) -> Iterator[str]:
    """Whether the checkpoint is of that log, and about the tree of the proof."""
    try:
        checkpoint = Checkpoint.parse(proof.checkpoint)
        name, _ = checkpoint.signature_of(log)
    except ValueError as error:
        yield f"its checkpoint is malformed: {error}"
        return
    if (checkpoint.size, checkpoint.root) != (proof.size, proof.root):
        yield "its checkpoint is about another tree than its proof"
    # Rekor's first version puts the ID of a tree behind the name
    if checkpoint.origin != name and not checkpoint.origin.startswith(f"{name} - "):
        yield f"its checkpoint is of the log {checkpoint.origin!r}, and signed in the name of {name!r}"


def unproven(entry: LogEntry, log: Log) -> Iterator[str]:
    """What the log did not sign, or what its tree does not hold."""
    if entry.proof is not None:
        yield from _unproven(entry.body, entry.proof, log)
    if entry.promise is not None:
        try:
            log.key.verified(signed_by_promise(entry), entry.promise)
        except ValueError as error:
            yield f"its inclusion promise (SET) is not the log's: {error}"


def _unproven(body: bytes, proof: Proof, log: Log) -> Iterator[str]:
    try:
        if root_of(body, proof) != proof.root:
            yield "its proof does not lead to the root of the log's tree"
    except ValueError as error:
        yield f"its proof is malformed: {error}"
    try:
        checkpoint = Checkpoint.parse(proof.checkpoint)
        log.key.verified(checkpoint.text, checkpoint.signature_of(log)[1])
    except ValueError as error:
        yield f"its checkpoint is not the log's: {error}"


def promised_time(entry: LogEntry) -> datetime | None:
    """When the log promises to have taken the entry in; None where it promises no time."""
    if entry.promise is None or not entry.integrated:
        return None
    return datetime.fromtimestamp(entry.integrated, UTC) if entry.integrated < 2**36 else None


def signed_by_promise(entry: LogEntry) -> bytes:
    """What an inclusion promise is a signature over."""
    return strict.canonical(
        {
            "body": encode_base64(entry.body),
            "integratedTime": entry.integrated or 0,
            "logID": entry.log_id.hex(),
            "logIndex": entry.index,
        }
    )


# Reads the bodies of log entries, and says whether one is about a certain signature; pure.
#
# What each kind names (rekor, pkg/types; rekor-tiles, CLIENTS.md), and so what the log vouches for:
#
# - `dsse` 0.0.1 and 0.0.2: an envelope's payload by its SHA-256, its one signature, the key or certificate;
# - `intoto` 0.0.2: the same, and the payload's type. Its `hash` is that of the envelope as the signer's tool wrote it,
#   which is not in the bundle: it is not recomputed;
# - `intoto` 0.0.1: no signature. It has the `hash` of the envelope in the signer's formatting, which covers payload,
#   type and signature: it has to be that of one of the forms that tools of its time wrote, or the entry names nothing;
# - `hashedrekord` 0.0.1: a file's SHA-256, a signature over it, the key or certificate;
# - `hashedrekord` 0.0.2: either, where an envelope is meant by the digest of what DSSE signs.


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
