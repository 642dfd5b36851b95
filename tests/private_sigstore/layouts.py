"""Takes bundles apart into what cosign attaches to an image without a bundle: a layer, and annotations beside it."""

import json

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.private_sigstore.hooks import Json
from tests.private_sigstore.keys import decode, encode

SIGNATURE, CERTIFICATE = "dev.cosignproject.cosign/signature", "dev.sigstore.cosign/certificate"
ENTRY, STAMP = "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"


def attestation(bundle: bytes) -> tuple[bytes, dict[str, str]]:
    """The envelope, as `cosign attest` writes it; and the annotations, the signature among them empty."""
    value = json.loads(bundle)
    content = value["dsseEnvelope"]
    envelope = {name: content[name] for name in ("payloadType", "payload", "signatures")}
    return json.dumps(envelope, separators=(",", ":")).encode(), {SIGNATURE: "", **annotations(value)}


def signature(bundle: bytes) -> dict[str, str]:
    """The annotations beside the text that was signed, as `cosign sign` writes them."""
    value = json.loads(bundle)
    return {SIGNATURE: value["messageSignature"]["signature"], **annotations(value)}


def annotations(bundle: Json) -> dict[str, str]:
    """What both have: certificate and log entry, where they are there."""
    material, found = bundle["verificationMaterial"], dict[str, str]()
    if "certificate" in material:
        certificate = x509.load_der_x509_certificate(decode(material["certificate"]["rawBytes"]))
        found[CERTIFICATE] = certificate.public_bytes(Encoding.PEM).decode()
    for it in material.get("tlogEntries", []):
        payload = {
            "body": it["canonicalizedBody"],
            "integratedTime": int(it["integratedTime"]),
            "logIndex": int(it["logIndex"]),
            "logID": decode(it["logId"]["keyId"]).hex(),
        }
        promise = it["inclusionPromise"]["signedEntryTimestamp"]
        found[ENTRY] = json.dumps({"SignedEntryTimestamp": promise, "Payload": payload})
    return found


def stamped(token: bytes) -> dict[str, str]:
    """A timestamp."""
    return {STAMP: json.dumps({"SignedRFC3161Timestamp": encode(token)})}


def simple_signing(digest: str, **critical: object) -> bytes:
    """The text that `cosign sign` signs."""
    named = {"docker-reference": "registry.test/team/app"}
    kind = "cosign container image signature"
    told = {"identity": named, "image": {"docker-manifest-digest": digest}, "type": kind}
    return json.dumps({"critical": told | critical, "optional": None}).encode()
