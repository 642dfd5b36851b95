"""Makes the bodies that Rekor keeps of a signature, kind by kind (rekor, pkg/types; rekor-tiles, CLIENTS.md)."""

import base64
import hashlib
import json
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from mvmnix.formats import strict
from mvmnix.provenance.bundle.envelope import pae
from tests.private_sigstore.hooks import Json
from tests.private_sigstore.keys import decode, encode

#: Makes a body of `dsseEnvelope` or `messageSignature`, and the certificate or key in PEM.
type Body = Callable[[Json, bytes], Json]


def dsse_body(content: Json, verifier: bytes, submitted: bytes = b"") -> Json:
    """What Rekor keeps of an envelope: kind `dsse` 0.0.1; `submitted` is the envelope in its signer's formatting."""
    kept = [{"signature": one["sig"], "verifier": encode(verifier)} for one in content["signatures"]]
    hashed = sha256(submitted or strict.canonical(content))
    spec = {"envelopeHash": hashed, "payloadHash": payload_hash(content), "signatures": kept}
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}


def intoto_1_body(content: Json, verifier: bytes) -> Json:
    """Kind `intoto` 0.0.1: the hash of the envelope as `cosign` submitted it, and no signature."""
    kept = {"hash": sha256(go_envelope(content)), "payloadHash": payload_hash(content)}
    return {"apiVersion": "0.0.1", "kind": "intoto", "spec": {"content": kept, "publicKey": encode(verifier)}}


def intoto_2_body(content: Json, verifier: bytes) -> Json:
    """Kind `intoto` 0.0.2: signatures in base64 twice; the hash is over another formatting than the bundle's."""
    kept = [{"publicKey": encode(verifier), "sig": encode(one["sig"].encode())} for one in content["signatures"]]
    envelope = {"payloadType": content["payloadType"], "signatures": kept}
    hashes = {"hash": sha256(json.dumps(content, indent=1).encode()), "payloadHash": payload_hash(content)}
    return {"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": {"envelope": envelope, **hashes}}}


def hashedrekord_body(content: Json, verifier: bytes) -> Json:
    """What Rekor keeps of a message signature: kind `hashedrekord` 0.0.1."""
    digest = {"algorithm": "sha256", "value": decode(content["messageDigest"]["digest"]).hex()}
    signature = {"content": content["signature"], "publicKey": {"content": encode(verifier)}}
    return {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {"data": {"hash": digest}, "signature": signature}}


def hashedrekord_2_body(content: Json, verifier: bytes) -> Json:
    """What Rekor's second version keeps of an envelope: the digest of what was signed."""
    signed = hashlib.sha256(pae(content["payloadType"], decode(content["payload"]))).digest()
    rekord = {
        "data": {"algorithm": "SHA2_256", "digest": encode(signed)},
        "signature": signature_2(content["signatures"][0]["sig"], verifier),
    }
    return {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": rekord}}


def dsse_2_body(content: Json, verifier: bytes) -> Json:
    """Kind `dsse` 0.0.2."""
    digest = encode(hashlib.sha256(decode(content["payload"])).digest())
    kept = {
        "payloadHash": {"algorithm": "SHA2_256", "digest": digest},
        "signatures": [signature_2(one["sig"], verifier) for one in content["signatures"]],
    }
    return {"apiVersion": "0.0.2", "kind": "dsse", "spec": {"dsseV002": kept}}


def signature_2(signature: str, verifier: bytes) -> Json:
    """`Signature` of rekor-tiles, of a certificate or key on P-256."""
    if b"CERTIFICATE" in verifier:
        raw = x509.load_pem_x509_certificate(verifier).public_bytes(Encoding.DER)
        who = {"x509Certificate": {"rawBytes": encode(raw)}}
    else:
        raw = load_pem_public_key(verifier).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        who = {"publicKey": {"rawBytes": encode(raw)}}
    return {"content": signature, "verifier": {**who, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}}


def go_envelope(content: Json) -> bytes:
    """An envelope as encoding/json writes dsse.Envelope of go-securesystemslib."""
    signatures = [{"keyid": one.get("keyid", ""), "sig": one["sig"]} for one in content["signatures"]]
    ordered = {"payloadType": content["payloadType"], "payload": content["payload"], "signatures": signatures}
    return json.dumps(ordered, separators=(",", ":")).encode()


def payload_hash(content: Json) -> Json:
    """The SHA-256 of an envelope's payload."""
    return sha256(base64.b64decode(content["payload"]))


def sha256(data: bytes) -> Json:
    """`Hash`."""
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}
