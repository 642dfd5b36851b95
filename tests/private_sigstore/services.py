"""Answers what clients ask of Fulcio, Rekor and the OIDC issuer, by the wire formats alone: no sockets here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from mvmnix.formats import strict
from mvmnix.provenance.bundle.envelope import pae
from tests.private_sigstore.authority import Leaf
from tests.private_sigstore.bodies import dsse_body
from tests.private_sigstore.hooks import Json
from tests.private_sigstore.instance import Sigstore
from tests.private_sigstore.keys import decode, encode
from tests.private_sigstore.log import TREE, leaf_hash
from tests.private_sigstore.oidc import Issuer


def load_key(data: bytes) -> Any:
    """A public key in PEM or DER."""
    return load_pem_public_key(data) if data.startswith(b"-----") else load_der_public_key(data)


def check(key: Any, signature: bytes, message: bytes, prehashed: bool = False) -> None:
    """Raise ValueError unless the key made the signature. `prehashed`: the message is a SHA-256 digest."""
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, message, ec.ECDSA(Prehashed(hashes.SHA256()) if prehashed else hashes.SHA256()))
            case ed25519.Ed25519PublicKey() if not prehashed:
                key.verify(signature, message)
            case _:
                raise ValueError("a kind of key that this log doesn't know")
    except InvalidSignature as error:
        raise ValueError("the signature does not verify") from error


@dataclass(frozen=True, slots=True)
class Fulcio:
    """Certificates for whoever has a token and a key. Both APIs: cosign uses the first, others the second."""

    private: Sigstore
    issuer: Issuer

    def issue(self, request: Json, bearer: str, at: datetime) -> list[str]:
        """The chain in PEM, leaf first, for a request with a CSR, or with a key and its signature of the subject."""
        token = request.get("credentials", {}).get("oidcIdentityToken", bearer)
        subject = self.issuer.subject_of(token, at)
        if wanted := request.get("certificateSigningRequest"):
            csr = x509.load_pem_x509_csr(decode(wanted))
            if not csr.is_signature_valid:
                raise ValueError("the CSR's signature does not verify")
            key = csr.public_key()
        else:
            key = self._proven(request, subject)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        leaf = Leaf.of(spki, subject=subject, issuer=self.issuer.url, at=at)
        der = self.private.ca.issue(leaf, self.private.ct, at, lambda scts: scts)
        chain = (x509.load_der_x509_certificate(der), *self.private.ca.chain)
        return [one.public_bytes(Encoding.PEM).decode() for one in chain]

    @staticmethod
    def _proven(request: Json, subject: str) -> Any:
        wanted = request.get("publicKeyRequest")
        if wanted is None:
            key, proof = load_key(decode(request["publicKey"]["content"])), request["signedEmailAddress"]
        else:
            key, proof = load_key(wanted["publicKey"]["content"].encode()), wanted["proofOfPossession"]
        check(key, decode(proof), subject.encode())
        return key


@dataclass(frozen=True, slots=True)
class Rekor:
    """Entries for whatever has a good signature. One at a time."""

    private: Sigstore
    lock: Lock

    def create(self, proposed: Json, at: datetime) -> Json:
        """The entry that was made, by its UUID, as `POST /api/v1/log/entries` answers."""
        match proposed:
            case {"kind": "dsse", "apiVersion": "0.0.1", "spec": {"proposedContent": content}}:
                body = self._dsse(content)
            case {"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": spec}:
                body = self._hashedrekord(spec)
            case _:
                raise ValueError(f"a kind of entry that this log doesn't take: {proposed.get('kind')!r}")
        with self.lock:
            return self._integrate(strict.canonical(body), at)

    def _dsse(self, content: Mapping[str, Any]) -> Json:
        envelope = json.loads(content["envelope"])
        (verifier,) = content["verifiers"]
        message = pae(envelope["payloadType"], decode(envelope["payload"]))
        for one in envelope["signatures"]:
            check(self._key(verifier), decode(one["sig"]), message)
        return dsse_body(envelope, decode(verifier), content["envelope"].encode())

    def _hashedrekord(self, spec: Mapping[str, Any]) -> Json:
        signature, claimed = spec["signature"], spec["data"]["hash"]
        if claimed["algorithm"] != "sha256":
            raise ValueError("not a SHA-256 digest")
        digest = bytes.fromhex(claimed["value"])
        check(self._key(signature["publicKey"]["content"]), decode(signature["content"]), digest, prehashed=True)
        kept = {"content": signature["content"], "publicKey": {"content": signature["publicKey"]["content"]}}
        data = {"hash": {"algorithm": "sha256", "value": digest.hex()}}
        return {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {"data": data, "signature": kept}}

    @staticmethod
    def _key(verifier: str) -> Any:
        pem = decode(verifier)
        is_certificate = b"BEGIN CERTIFICATE" in pem
        return x509.load_pem_x509_certificate(pem).public_key() if is_certificate else load_key(pem)

    def _integrate(self, body: bytes, at: datetime) -> Json:
        log = self.private.log
        proof = log.append(body)
        entry = {
            "body": encode(body),
            "integratedTime": int(at.timestamp()),
            "logID": log.key.log_id.hex(),
            "logIndex": proof.index,
            "verification": {
                "inclusionProof": {
                    "checkpoint": log.signed_note(log.checkpoint_text(proof)),
                    "hashes": [one.hex() for one in proof.hashes],
                    "logIndex": proof.index,
                    "rootHash": proof.root.hex(),
                    "treeSize": proof.size,
                },
                "signedEntryTimestamp": encode(log.promise(body, proof.index, at)),
            },
        }
        return {f"{TREE:016x}{leaf_hash(body).hex()}": entry}
