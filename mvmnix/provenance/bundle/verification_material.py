"""Reads and writes what a bundle brings to check its signature with: key hint or certificate, log entries, timestamps.

The format is protobuf-specs' (sigstore_bundle.proto, sigstore_rekor.proto) in Protobuf's JSON: bytes in base64, 64-bit
integers as decimal text. Each value has one spelling, so that no byte can change unnoticed. Reading proves nothing.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, cast

from mvmnix.digest import Digest
from mvmnix.formats import strict

#: More than any bundle has; only one entry is ever trusted.
MOST_ENTRIES: Final = 16
MOST_TIMESTAMPS: Final = 16
#: The path to a leaf of a tree with 2**63 leaves.
_LONGEST_PATH: Final = 63
#: base64 of an entry that repeats a whole attestation (`intoto` 0.0.2 may).
_BODY_LIMIT: Final = 24 * 2**20
#: Of all other texts.
_TEXT_LIMIT: Final = 65_536
#: A hint that is the SHA-256 of a key's SubjectPublicKeyInfo in base64.
FINGERPRINT: Final = r"[A-Za-z0-9+/]{43}="
_WORD: Final = r"[A-Za-z0-9.]{1,32}"
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_NOTE: Final = r"(?s)[^\x00\ud800-\udfff]{1,16384}"


class Inclusion(StrEnum):
    """What shows that a log holds an entry: nothing, the log's promise (SET) alone, or a proof in its tree."""

    NONE = "none"
    PROMISED = "promised"
    PROVED = "proved"


@dataclass(frozen=True, slots=True)
class Proof:
    """That the leaf at `index` is in the tree of `size` leaves with that root; `checkpoint` is what the log signed."""

    index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str

    def to_value(self) -> Mapping[str, object]:
        """`InclusionProof`."""
        return {
            "logIndex": str(self.index),
            "rootHash": encode_base64(self.root),
            "treeSize": str(self.size),
            "hashes": [encode_base64(one) for one in self.hashes],
            "checkpoint": {"envelope": self.checkpoint},
        }


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What a transparency log says it holds: `body` at `index`, taken in at `integrated` (seconds since 1970).

    `promise` is the signed entry timestamp; logs that answer with a proof only have neither it nor a time. `proof` is
    None where the log's promise stands alone, as in bundles of version 0.1.
    """

    index: int
    log_id: bytes
    kind: str
    version: str
    integrated: int | None
    promise: bytes | None
    proof: Proof | None
    body: bytes

    def to_value(self) -> Mapping[str, object]:
        """`TransparencyLogEntry`."""
        value: dict[str, object] = {
            "logIndex": str(self.index),
            "logId": {"keyId": encode_base64(self.log_id)},
            "kindVersion": {"kind": self.kind, "version": self.version},
            "canonicalizedBody": encode_base64(self.body),
        }
        if self.proof is not None:
            value["inclusionProof"] = self.proof.to_value()
        if self.integrated is not None:
            value["integratedTime"] = str(self.integrated)
        if self.promise is not None:
            value["inclusionPromise"] = {"signedEntryTimestamp": encode_base64(self.promise)}
        return value


@dataclass(frozen=True, slots=True)
class Material:
    """Who is claimed to have signed, by the hint of a key or by a certificate in DER, and who witnessed it.

    `timestamps` are RFC 3161 responses in DER. Raises ValueError unless there is either a hint or a certificate.
    """

    hint: str = ""
    certificate: bytes = b""
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.hint) == bool(self.certificate):
            raise ValueError("it names neither one key nor one certificate")

    @property
    def entry(self) -> LogEntry | None:
        """The one log entry; None without one, and of several, of which the wrong one could be looked at."""
        match self.entries:
            case (only,):
                return only
            case _:
                return None

    @property
    def inclusion(self) -> Inclusion:
        """What it brings to show that a log holds the signature; whether that holds, identity/rekor.py says."""
        if self.entry is None:
            return Inclusion.NONE
        if self.entry.proof is not None:
            return Inclusion.PROVED
        return Inclusion.NONE if self.entry.promise is None else Inclusion.PROMISED

    def to_value(self) -> Mapping[str, object]:
        """`VerificationMaterial`; what is empty does not stand there."""
        value: dict[str, object] = {}
        if self.hint:
            value["publicKey"] = {"hint": self.hint}
        else:
            value["certificate"] = {"rawBytes": encode_base64(self.certificate)}
        if self.entries:
            value["tlogEntries"] = [entry.to_value() for entry in self.entries]
        if self.timestamps:
            stamps = [{"signedTimestamp": encode_base64(one)} for one in self.timestamps]
            value["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
        return value


def material(
    record: strict.Record, *, hints: str = FINGERPRINT, chain: bool = True, promises: bool = False
) -> Material:
    """Read `VerificationMaterial`. What is empty may stand there; the canonical form leaves it out.

    `hints` is the form of a key's hint; `chain`: whether a chain of certificates may stand in the place of one;
    `promises`: whether an entry may have the log's promise alone, without a proof, which it then has to have.
    """
    hint = record.child("publicKey", lambda it: _hint(it, hints)) if record.has("publicKey") else ""
    certificate = record.child("certificate", raw_bytes) if record.has("certificate") else b""
    if chain and not hint and not certificate and record.has("x509CertificateChain"):
        certificate = record.child("x509CertificateChain", _first)
    read_entry = _promised_entry if promises else _entry
    entries = record.each("tlogEntries", read_entry, MOST_ENTRIES) if record.has("tlogEntries") else ()
    timed = record.has("timestampVerificationData")
    return Material(hint, certificate, entries, record.child("timestampVerificationData", _stamps) if timed else ())


def keyless(value: Any) -> Material:
    """The same where a certificate and one entry stand there and no timestamp, with every limit that `material` has.

    For callers that then compare `to_value` with what was read. Raises ValueError, TypeError, LookupError,
    AttributeError.
    """
    (entry,) = value["tlogEntries"]
    proof, kind, promise = entry["inclusionProof"], entry["kindVersion"], entry.get("inclusionPromise")
    hashes = proof["hashes"]
    if len(hashes) > _LONGEST_PATH:
        raise ValueError("too long a path")
    read = LogEntry(
        _decimal(entry["logIndex"]),
        some(entry["logId"]["keyId"]),
        matching(_WORD, kind["kind"]),
        matching(_WORD, kind["version"]),
        _decimal(entry["integratedTime"]) if "integratedTime" in entry else None,
        None if promise is None else some(promise["signedEntryTimestamp"]),
        Proof(
            _decimal(proof["logIndex"]),
            _decimal(proof["treeSize"]),
            some(proof["rootHash"]),
            tuple(map(some, hashes)),
            matching(_NOTE, proof["checkpoint"]["envelope"]),
        ),
        some(entry["canonicalizedBody"]),
    )
    return Material(certificate=some(value["certificate"]["rawBytes"]), entries=(read,))


#: Of the few patterns that stand in the code. `re` has a cache too, which takes longer to ask.
_compiled: Final = cache(re.compile)


def matching(pattern: str, text: str) -> str:
    """The text, which matches. Raises ValueError."""
    if _compiled(pattern).fullmatch(text) is None:
        raise ValueError("not of the expected form")
    return text


def some(text: str) -> bytes:
    """The bytes of base64, of which there are some and not too many. Raises ValueError."""
    if not text or len(text) > _TEXT_LIMIT:
        raise ValueError("empty, or too long")
    return decode_base64(text)


def without_nulls(value: object) -> object:
    """The same value without the fields that are `null`: in Protobuf's JSON, `null` is how absence may be written."""
    match value:
        case dict():
            fields = cast("dict[str, object]", value)
            return {name: without_nulls(each) for name, each in fields.items() if each is not None}
        case list():
            return [without_nulls(each) for each in cast("list[object]", value)]
        case _:
            return value


def encode_base64(data: bytes) -> str:
    """Standard base64, as Protobuf's JSON writes bytes."""
    return binascii.b2a_base64(data, newline=False).decode()


def decode_base64(text: str | memoryview) -> bytes:
    """The bytes of standard base64 in its only spelling, which may stand within other bytes. Raises ValueError.

    >>> decode_base64("MTI=")
    b'12'
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ValueError("not base64") from error
    # strict mode settles all but the bits of the last character that mean nothing, where there are some
    tail = text[-4:]
    last = tail.encode() if isinstance(tail, str) else tail
    if (rest := len(data) % 3) and last != binascii.b2a_base64(data[-rest:], newline=False):
        raise ValueError("not the only base64 of these bytes")
    return data


def raw_bytes(record: strict.Record) -> bytes:
    """`X509Certificate`, in DER."""
    return some_bytes(record, "rawBytes")


def some_bytes(record: strict.Record, name: str, limit: int = _TEXT_LIMIT) -> bytes:
    """A field of bytes that are not empty; b"" where that was noted as a problem."""
    return record.parsed(name, _some, b"", limit)


def hash_output(record: strict.Record) -> Digest:
    """`HashOutput`, of the one algorithm that mvm knows."""
    record.text("algorithm", "SHA2_256")
    return record.parsed("digest", lambda text: Digest(decode_base64(text).hex()), Digest("0" * 64))


def _some(text: str) -> bytes:
    data = decode_base64(text)
    if not data:
        raise ValueError("empty")
    return data


def _hint(record: strict.Record, form: str) -> str:
    text = record.text("hint", form, 1024)
    # how npm's registry names its keys (its endpoint -/npm/v1/keys): without the padding
    prefix, _, digest = text.rpartition("SHA256:")
    return f"{digest}=" if not prefix and re.fullmatch(FINGERPRINT, f"{digest}=") else text


def _first(record: strict.Record) -> bytes:
    # older bundles carry the certificates above it too, which mvm does not trust: the trust root has its own
    chain = record.each("certificates", raw_bytes, 16)
    return chain[0] if chain else b""


def _stamps(record: strict.Record) -> tuple[bytes, ...]:
    if not record.has("rfc3161Timestamps"):
        return ()
    return record.each("rfc3161Timestamps", lambda one: some_bytes(one, "signedTimestamp"), MOST_TIMESTAMPS)


def _promised_entry(record: strict.Record) -> LogEntry:
    if not record.has("inclusionPromise"):
        raise ValueError("no inclusion promise, which bundles of version 0.1 have to have")
    return _entry(record, proved=record.has("inclusionProof"))


def _entry(record: strict.Record, *, proved: bool = True) -> LogEntry:
    kind, version = record.child("kindVersion", lambda it: (it.text("kind", _WORD), it.text("version", _WORD)))
    promised = record.has("inclusionPromise")
    return LogEntry(
        _integer(record, "logIndex"),
        record.child("logId", lambda it: some_bytes(it, "keyId")),
        kind,
        version,
        _integer(record, "integratedTime") if record.has("integratedTime") else None,
        record.child("inclusionPromise", lambda it: some_bytes(it, "signedEntryTimestamp")) if promised else None,
        record.child("inclusionProof", _proof) if proved else None,
        some_bytes(record, "canonicalizedBody", _BODY_LIMIT),
    )


def _proof(record: strict.Record) -> Proof:
    return Proof(
        _integer(record, "logIndex"),
        _integer(record, "treeSize"),
        some_bytes(record, "rootHash"),
        tuple(decode_base64(one) for one in record.texts("hashes", limit=_LONGEST_PATH))
        if record.has("hashes")
        else (),
        record.child("checkpoint", lambda it: it.text("envelope", _NOTE)),
    )


def _integer(record: strict.Record, name: str) -> int:
    return record.parsed(name, _decimal, 0)


def _decimal(text: str) -> int:
    if not _DECIMAL.fullmatch(text) or (number := int(text)) >= 2**63:
        raise ValueError("not a 64-bit integer in its only decimal form")
    return number
