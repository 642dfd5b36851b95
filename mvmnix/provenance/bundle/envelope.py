"""Wraps a statement and its signature as a Sigstore bundle with a DSSE envelope; reads such bundles back.

DSSE is secure-systems-lab/dsse, protocol.md; the bundle is protobuf-specs, sigstore_bundle.proto, media type v0.3. It
is signed by a plain key, which `publicKey.hint` names by base64(SHA-256(SPKI)) as `cosign` does, or by a certified
one; a log's entries and timestamps may stand beside either. There is exactly one signature. Bundles of other tools come
in other formatting, by older media types, and with a signature over a file itself (`messageSignature`) in place of the
envelope: `parse_foreign` reads those. Reading proves nothing: provenance/verify/authentication.py says who signed.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats import strict
from mvmnix.keys import PrivateKey
from mvmnix.provenance.bundle import verification_material as materials
from mvmnix.provenance.bundle.statement import PAYLOAD_TYPE
from mvmnix.provenance.bundle.verification_material import (
    Material,
    decode_base64,
    encode_base64,
    hash_output,
    matching,
    some,
)

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
#: base64 of the largest statement, with room for the rest.
BUNDLE_LIMIT: Final = 24 * 2**20

_OURS: Final = MEDIA_TYPE.replace(".", r"\.").replace("+", r"\+")
_ANY: Final = rf"{_OURS}|application/vnd\.dev\.sigstore\.bundle\+json;version=0\.[123]"
_FIRST: Final = "application/vnd.dev.sigstore.bundle+json;version=0.1"
_CHAINED: Final = (_FIRST, "application/vnd.dev.sigstore.bundle+json;version=0.2")
#: More bytes than a bundle with one log entry has without its payload.
_QUICK: Final = 2**20
#: The format says nothing of a hint's form.
_HINTS: Final = r"[!-~]{1,1024}"
_KEY_ID: Final = r"[^\x00-\x1f\x7f]{0,1024}"
_HEAD: Final = b'{"dsseEnvelope":{"payload":"'
_TYPE: Final = r"[!-~]{1,255}"
#: Two are refused already; of more than these nothing else is said.
_MOST_SIGNATURES: Final = 16
#: What follows the first value is left to the comparison with the canonical form.
_decode: Final = json.JSONDecoder().raw_decode
_WHAT: Final = "the bundle"
_HINT: Final = "have the claim signed again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A payload with one signature; `material` says who is claimed to have made it.

    `key_id` is not signed and decides nothing; mvm writes none. `stamped` is what timestamps are over where that is not
    the signature alone: an envelope in its signer's formatting, out of which payload and signature were read.
    """

    payload: bytes
    payload_type: str
    signature: bytes
    material: Material
    key_id: str = ""
    stamped: bytes = b""

    @property
    def timestamped(self) -> bytes:
        """What a timestamp has to be over."""
        return self.stamped or self.signature

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over: DSSE's pre-authentication encoding of type and payload."""
        return pae(self.payload_type, self.payload)

    @property
    def formatted(self) -> tuple[bytes, ...]:
        """The envelope alone in the forms in which tools put it into a log by its hash (`intoto` 0.0.1).

        Go's encoding/json of dsse.Envelope, in the order of its fields, and compact JSON with sorted keys.
        """
        kind, payload = json.dumps(self.payload_type), encode_base64(self.payload)
        signature = json.dumps({"keyid": self.key_id, "sig": encode_base64(self.signature)}, separators=(",", ":"))
        return (
            f'{{"payloadType":{kind},"payload":"{payload}","signatures":[{signature}]}}'.encode(),
            f'{{"payload":"{payload}","payloadType":{kind},"signatures":[{signature}]}}'.encode(),
        )

    def to_bytes(self) -> bytes:
        """The bundle in canonical JSON, as mvm writes it."""
        # the payload is nearly all of it, and base64 needs no escapes: it is put in where sorted keys bring it first
        return b"".join((_HEAD, base64.b64encode(self.payload), self.without_payload().removeprefix(_HEAD)))

    def without_payload(self) -> bytes:
        """The same with an empty payload: what canonical bytes are around theirs."""
        envelope = {
            "payload": "",
            "payloadType": self.payload_type,
            "signatures": [{"keyid": "", "sig": encode_base64(self.signature)}],
        }
        return _written(self.material, dsseEnvelope=envelope)

    @property
    def digest(self) -> Digest:
        """The digest of the canonical bytes, by which plans, receipts and the log name the bundle."""
        return Digest.of(self.to_bytes())


@dataclass(frozen=True, slots=True)
class MessageBundle:
    """A signature over a file itself; `digest` is what the bundle says the file's is, claimed as everything here."""

    signature: bytes
    digest: Digest | None
    material: Material

    @property
    def timestamped(self) -> bytes:
        """What a timestamp has to be over."""
        return self.signature

    def to_bytes(self) -> bytes:
        """The bundle in canonical JSON."""
        signature: dict[str, object] = {"signature": encode_base64(self.signature)}
        if self.digest is not None:
            signature["messageDigest"] = {"algorithm": "SHA2_256", "digest": encode_base64(self.digest.raw)}
        return _written(self.material, messageSignature=signature)

    def without_payload(self) -> bytes:
        """The same: there is none in it."""
        return self.to_bytes()


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
    return Bundle(payload, PAYLOAD_TYPE, signature, Material(key.public.hint))


def parse_bundle(data: bytes) -> Bundle:
    """Read a bundle in any formatting. Raises RefusedError BUNDLE_MALFORMED, or UNSIGNED when it has no signature."""
    return read(data)[0]


def parse_foreign(data: bytes) -> Bundle | MessageBundle:
    """Read a bundle that another tool made. Raises as `parse_bundle` does.

    Beyond formatting: media types of versions 0.1 to 0.3; up to 0.2 a chain of certificates, of which the first counts;
    in 0.1 log entries with a promise and no proof; `null` for what is absent (Protobuf's JSON); key IDs, which are not
    signed; message signatures.
    """
    return read_foreign(data)[0]


def read(data: bytes) -> tuple[Bundle, bytes]:
    """Read a bundle as `parse_bundle` does, and say what `to_bytes` writes of it: `data` itself, where mvm wrote it."""
    return _read(data, _bundle, lambda value: value)


def read_foreign(data: bytes) -> tuple[Bundle | MessageBundle, bytes]:
    """Read a bundle as `parse_foreign` does, and say what `to_bytes` writes of it."""
    return _read(data, _foreign, materials.without_nulls)


def _written(material: Material, **content: object) -> bytes:
    return strict.canonical({"mediaType": MEDIA_TYPE, "verificationMaterial": material.to_value(), **content})


def _read[T: Bundle | MessageBundle](
    data: bytes, parse: Callable[[strict.Record, bytes], T | None], prepare: Callable[[object], object]
) -> tuple[T | Bundle, bytes]:
    payload, rest = _cut(data)
    if (quick := _quick(payload, rest)) is not None:
        return quick, data
    try:
        bundle = _parsed(rest, lambda record: parse(record, payload), prepare)
    except RefusedError:
        # reasons say where something stands: in the bytes as they came
        bundle = _parsed(data, lambda record: parse(record, b""), prepare)
    if bundle is None:
        raise _unsigned()
    return bundle, data if bundle.without_payload() == rest else bundle.to_bytes()


def _quick(payload: bytes, rest: bytes) -> Bundle | None:
    """A keyless bundle as mvm writes it; None for all others, and where something is wrong, which is not said here.

    It is read without strict's help: since it has to give these very bytes again, no key is listed twice, none that
    is not read here, and nothing stands there in another form.
    """
    if len(rest) > _QUICK:
        return None
    try:
        value, _ = _decode(rest.decode())
        (signature,) = value["dsseEnvelope"]["signatures"]
        kind = matching(_TYPE, value["dsseEnvelope"]["payloadType"])
        bundle = Bundle(payload, kind, some(signature["sig"]), materials.keyless(value["verificationMaterial"]))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return bundle if bundle.without_payload() == rest else None


def _parsed[T](data: bytes, parse: Callable[[strict.Record], T], prepare: Callable[[object], object]) -> T:
    try:
        return strict.read(prepare(strict.parse_json(data, limit=BUNDLE_LIMIT)), "bundle", parse)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.BUNDLE_MALFORMED, _WHAT, _HINT) from error


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """Take the payload out of a bundle as mvm writes it, and leave an empty one; out of any other, nothing.

    It is nearly all of the bytes, and no base64 has a quote, an escape or a bracket in it: what JSON makes of the rest
    is the same without it.
    """
    if not data.startswith(_HEAD) or len(data) > BUNDLE_LIMIT:
        return b"", data
    try:
        end = data.index(b'"', len(_HEAD))
        return decode_base64(memoryview(data)[len(_HEAD) : end]), b"".join((_HEAD, data[end:]))
    except ValueError:
        return b"", data


def _unsigned() -> RefusedError:
    return refuse(ReasonCode.UNSIGNED, _WHAT, "it carries no signature", "sign it: `mvm plan sign` for a plan")


def _bundle(record: strict.Record, payload: bytes) -> Bundle | None:
    record.text("mediaType", _OURS)
    material = record.child("verificationMaterial", materials.material)
    return record.child("dsseEnvelope", lambda it: _envelope(it, material, payload, ""))


def _foreign(record: strict.Record, payload: bytes) -> Bundle | MessageBundle | None:
    kind = record.text("mediaType", _ANY)
    # protobuf-specs, sigstore_bundle.proto: what may stand in the material depends on the version
    old, first = kind in _CHAINED, kind == _FIRST
    material = record.child(
        "verificationMaterial", lambda it: materials.material(it, hints=_HINTS, chain=old, promises=first)
    )
    if record.has("messageSignature"):
        message: MessageBundle | None = record.child("messageSignature", lambda it: _message(it, material))
        return message
    bundle: Bundle | None = record.child("dsseEnvelope", lambda it: _envelope(it, material, payload, _KEY_ID))
    return bundle


def _envelope(envelope: strict.Record, material: Material, cut: bytes, key_id: str) -> Bundle | None:
    payload = envelope.parsed("payload", decode_base64, b"", BUNDLE_LIMIT) or cut
    payload_type = envelope.text("payloadType", _TYPE)
    match envelope.each("signatures", lambda it: _signature(it, key_id), _MOST_SIGNATURES):
        case ((signature, found),) if signature:
            return Bundle(payload, payload_type, signature, material, found)
        case () | (_,):
            return None
        case _:
            raise ValueError("it has more than one signature")


def _signature(record: strict.Record, key_id: str) -> tuple[bytes, str]:
    found = record.text("keyid", key_id) if record.has("keyid") else ""
    return record.parsed("sig", decode_base64, b""), found


def _message(record: strict.Record, material: Material) -> MessageBundle | None:
    signature = record.parsed("signature", decode_base64, b"")
    digest = record.child("messageDigest", hash_output) if record.has("messageDigest") else None
    return MessageBundle(signature, digest, material) if signature else None
