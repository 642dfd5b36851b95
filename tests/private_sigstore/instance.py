"""Puts the authorities together and makes the bundles that a signer would get of them, in one process."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.statement import PAYLOAD_TYPE
from tests.private_sigstore.authority import Ca, CtLog, Leaf
from tests.private_sigstore.bodies import Body, dsse_body, hashedrekord_body
from tests.private_sigstore.hooks import UNCHANGED, Hooks, Json
from tests.private_sigstore.keys import decode, encode
from tests.private_sigstore.log import Log
from tests.private_sigstore.timestamping import Tsa

ROOT_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True, slots=True)
class Sigstore:
    """A private Sigstore: `Sigstore()` is a new one with its own keys.

    A part is replaced with `dataclasses.replace`: `replace(it, log=Sigstore().log)` logs elsewhere, and
    `replace(it, ca=replace(it.ca, valid_for=Window(start, end)))` is the same CA with another window in the trusted
    root. Parts are shared by such copies, the log's entries too.
    """

    ca: Ca = field(default_factory=Ca.new)
    ct: CtLog = field(default_factory=CtLog)
    log: Log = field(default_factory=Log)
    tsa: Tsa = field(default_factory=Tsa.new)

    @property
    def trusted_root(self) -> bytes:
        """The trusted_root.json of this instance alone, in canonical JSON."""
        return merged(self)

    @property
    def domain(self) -> Digest:
        """SHA-256 of the trusted root: what a policy calls this trust domain."""
        return Digest.of(self.trusted_root)

    def attest(
        self,
        payload: bytes,
        *,
        at: datetime,
        subject: str = "builder@mvmnix.test",
        issuer: str = "https://issuer.test",
        payload_type: str = PAYLOAD_TYPE,
        key: PrivateKey | None = None,
        log: bool = True,
        tsa: bool = False,
        kind: Body = dsse_body,
        hooks: Hooks = UNCHANGED,
    ) -> bytes:
        """A bundle v0.3 with a DSSE envelope around `payload`, in canonical JSON.

        Keyless: an ephemeral P-256 key, certified for `subject` (email address or URI) and `issuer` from `at` for ten
        minutes. With `key`: that key and its hint in place of a certificate. `log`: with an entry of this `kind` and of
        time `at`, its SET, inclusion proof and checkpoint. `tsa`: with an RFC 3161 timestamp of time `at`.
        """
        work = _Work(self, at, hooks)
        material, verifier, signer = work.signer(subject, issuer, key)
        signature = hooks.signature(signer.sign(envelope.pae(payload_type, payload)))
        signatures = [{"keyid": "", "sig": encode(signature)}]
        content = hooks.content({"payload": encode(payload), "payloadType": payload_type, "signatures": signatures})
        body = kind(content, verifier)
        signature = decode(content["signatures"][0]["sig"])
        return work.bundle(material, {"dsseEnvelope": content}, body if log else None, signature if tsa else None)

    def sign_blob(
        self,
        artifact: bytes,
        *,
        at: datetime,
        subject: str = "builder@mvmnix.test",
        issuer: str = "https://issuer.test",
        key: PrivateKey | None = None,
        log: bool = True,
        tsa: bool = False,
        hooks: Hooks = UNCHANGED,
    ) -> bytes:
        """A bundle v0.3 with a signature over `artifact` itself, as `cosign sign-blob` makes; see `attest`.

        The log entry is `hashedrekord` 0.0.1, which has no Ed25519 keys: such a `key` needs `log=False`.
        """
        work = _Work(self, at, hooks)
        material, verifier, signer = work.signer(subject, issuer, key)
        signature = hooks.signature(signer.sign(artifact))
        digest = {"algorithm": "SHA2_256", "digest": encode(hashlib.sha256(artifact).digest())}
        content = hooks.content({"messageDigest": digest, "signature": encode(signature)})
        body = hashedrekord_body(content, verifier)
        signature = decode(content["signature"])
        return work.bundle(material, {"messageSignature": content}, body if log else None, signature if tsa else None)


def merged(*instances: Sigstore) -> bytes:
    """One trusted_root.json with the authorities of several instances, in canonical JSON: what nobody should have."""
    return strict.canonical(
        {
            "mediaType": ROOT_TYPE,
            "tlogs": [one.log.to_json() for one in instances],
            "certificateAuthorities": [one.ca.to_json() for one in instances],
            "ctlogs": [one.ct.to_json() for one in instances],
            "timestampAuthorities": [one.tsa.to_json() for one in instances],
        }
    )


def entry_of(bundle: bytes) -> Json:
    """The log entry of a bundle."""
    entry: Json = json.loads(bundle)["verificationMaterial"]["tlogEntries"][0]
    return entry


@dataclass(frozen=True, slots=True)
class _Work:
    """One bundle in the making."""

    at_home: Sigstore
    at: datetime
    hooks: Hooks

    def signer(self, subject: str, issuer: str, key: PrivateKey | None) -> tuple[Json, bytes, PrivateKey]:
        """Material that says whose the key is, the same in PEM as the log keeps it, and who signs."""
        if key is not None:
            return {"publicKey": {"hint": key.public.hint}}, key.public.pem.encode(), self.hooks.signing_key(key)
        ephemeral = PrivateKey.generate(Algorithm.ECDSA_P256)
        leaf = self.hooks.leaf(Leaf.of(ephemeral.public.spki, subject=subject, issuer=issuer, at=self.at))
        certificate = self.at_home.ca.issue(leaf, self.at_home.ct, self.at, self.hooks.scts)
        certificate = self.hooks.certificate(certificate)
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        return {"certificate": {"rawBytes": encode(certificate)}}, pem, self.hooks.signing_key(ephemeral)

    def bundle(self, material: Json, content: Json, body: Json | None, signature: bytes | None) -> bytes:
        """The bundle; with `body` a log entry, with `signature` a timestamp of it."""
        if body is not None:
            material |= {"tlogEntries": [self.hooks.entry(self.entry(self.hooks.body(body)))]}
        if signature is not None:
            token = self.at_home.tsa.token(signature, self.hooks.token_time(self.at))
            stamps = [{"signedTimestamp": encode(self.hooks.token(token))}]
            material |= {"timestampVerificationData": {"rfc3161Timestamps": stamps}}
        bundle = {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, **content}
        return self.hooks.data(strict.canonical(self.hooks.bundle(bundle)))

    def entry(self, body: Json) -> Json:
        """`TransparencyLogEntry` of a body that the log takes in."""
        log, data = self.at_home.log, strict.canonical(body)
        proof = self.hooks.proof(log.append(data))
        integrated = self.hooks.integrated_time(self.at)
        promise = self.hooks.promise(log.promise(data, proof.index, integrated))
        checkpoint = self.hooks.checkpoint(log.signed_note(self.hooks.checkpoint_text(log.checkpoint_text(proof))))
        return {
            "logIndex": str(proof.index),
            "logId": {"keyId": encode(log.key.log_id)},
            "kindVersion": {"kind": body.get("kind", "dsse"), "version": body.get("apiVersion", "0.0.1")},
            "integratedTime": str(int(integrated.timestamp())),
            "inclusionPromise": {"signedEntryTimestamp": encode(promise)},
            "inclusionProof": {
                "logIndex": str(proof.index),
                "rootHash": encode(proof.root),
                "treeSize": str(proof.size),
                "hashes": [encode(one) for one in proof.hashes],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": encode(data),
        }
