"""Makes forgeries of keyless and logged bundles: one layer is changed, those around it are made and signed again."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, override

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import strict
from mvmnix.keys import Algorithm, PrivateKey, Role
from mvmnix.provenance.identity.trust import Identity, Pattern, Revocations, Signer, Trust
from tests.private_sigstore import ISSUER_V1, ISSUER_V2, Hooks, Json, Leaf, Proof, Sct, Sigstore, Window, entry_of
from tests.unit.provenance import world as worlds

NOW = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SUBJECT, ISSUER = "ci@mvmnix.test", "https://issuer.test"
PAYLOAD = strict.canonical(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "a", "digest": {"sha256": Digest.of(b"a").hex}}],
        "predicateType": "urn:x",
        "predicate": {},
    }
)
KEY, STRANGER = PrivateKey.generate(Algorithm.ECDSA_P256), PrivateKey.generate(Algorithm.ECDSA_P256)
#: The instance that the policy trusts, and one that it does not.
OURS, THEIRS = Sigstore(), Sigstore()
BUILDER = frozenset({Role.BUILDER})
#: Values of `Case.keyed`.
MODES = [pytest.param(False, id="certificate"), pytest.param(True, id="key")]


def identity(subject: str = SUBJECT, issuer: str = ISSUER, domain: Digest | None = None) -> Identity:
    return Identity(Pattern(subject), Pattern(issuer), domain or OURS.domain)


@dataclass(frozen=True)
class Case:
    """A bundle in the making, and whom to trust. `keyed`: by a plain key whose signatures have to be logged."""

    keyed: bool = False
    at_home: Sigstore = OURS
    hooks: Hooks = field(default_factory=Hooks)
    subject: str = SUBJECT
    issuer: str = ISSUER
    options: Mapping[str, Any] = field(default_factory=dict)
    signers: tuple[Signer, ...] = ()
    roots: Mapping[Digest, bytes] | None = None
    revocations: Revocations = field(default_factory=Revocations)

    def bundle(self) -> bytes:
        key = KEY if self.keyed else None
        return self.at_home.attest(
            PAYLOAD, at=NOW, key=key, hooks=self.hooks, subject=self.subject, issuer=self.issuer, **self.options
        )

    @property
    def trust(self) -> Trust:
        usual = (
            Signer("ci", identity(), BUILDER),
            Signer("key", KEY.public, BUILDER, OURS.domain),
        )
        roots = {OURS.domain: OURS.trusted_root} if self.roots is None else self.roots
        return Trust(self.signers or usual, roots, self.revocations)


@dataclass(frozen=True)
class Row:
    """A forgery: which step has to notice, by which reasons; for bundles of certificates, of keys, or both."""

    step: str
    codes: set[Code]
    change: Callable[[Case], Case]
    name: str
    modes: tuple[bool, ...] = (False, True)


def hooks(**changes: Any) -> Callable[[Case], Case]:
    return lambda it: replace(it, hooks=Hooks(**changes))


def hooks_and(options: Mapping[str, Any], **changes: Any) -> Callable[[Case], Case]:
    return lambda it: replace(it, hooks=Hooks(**changes), options=options)


def case(**changes: Any) -> Callable[[Case], Case]:
    return lambda it: replace(it, **changes)


def home(**parts: Any) -> Callable[[Case], Case]:
    """The same instance with some parts of another; the policy still trusts OURS."""
    return lambda it: replace(it, at_home=replace(OURS, **parts))


def window(**parts: Any) -> Callable[[Case], Case]:
    """Some parts with another `validFor`, in a root that the policy pins."""
    its = replace(OURS, **parts)
    signers = (Signer("ci", identity(domain=its.domain), BUILDER), Signer("key", KEY.public, BUILDER, its.domain))
    return lambda it: replace(it, at_home=its, roots={its.domain: its.trusted_root}, signers=signers)


def edited(change: worlds.Change) -> Callable[[Json], Json]:
    """A hook that changes a copy."""

    def apply(value: Json) -> Json:
        copied: Json = json.loads(json.dumps(value))
        change(copied)
        return copied

    return apply


def put(value: object, *path: str | int) -> Callable[[Json], Json]:
    return edited(worlds.put(value, *path))


def drop(*path: str | int) -> Callable[[Json], Json]:
    return edited(worlds.drop(*path))


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def of_no_version(token: bytes) -> bytes:
    """A timestamp's certificates say a version that there is none of; its signature doesn't cover them."""
    return token.replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\x24")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def leaf(**changes: Any) -> Callable[[Case], Case]:
    return hooks(leaf=lambda it: replace(it, **changes))


def fields(**changes: bytes | None) -> Callable[[Case], Case]:
    names = {"v1": ISSUER_V1, "v2": ISSUER_V2}

    def change(it: Leaf) -> Leaf:
        told = dict(it.fields) | {names[name]: value for name, value in changes.items() if value is not None}
        return replace(it, fields={oid: told[oid] for oid in told if changes.get(_short(oid), b"") is not None})

    return hooks(leaf=change)


def _short(oid: str) -> str:
    return {ISSUER_V1: "v1", ISSUER_V2: "v2"}.get(oid, "")


def sct(change: Callable[[Sct], Sct]) -> Callable[[Case], Case]:
    return hooks(scts=lambda every: tuple(change(one) for one in every))


def foreign_entry(it: Json) -> Json:
    """The entry of another good signature by the same signer over another payload."""
    return entry_of(OURS.attest(PAYLOAD + b" ", at=NOW, subject=SUBJECT, issuer=ISSUER))


def of_another(part: Callable[[Json], Any]) -> Any:
    """A part of a good bundle of the same signer and instance, over another payload."""
    return part(foreign_entry({}))


def other_scts(_: tuple[Sct, ...]) -> tuple[Sct, ...]:
    """Those of another certificate that the same authority gave the same subject."""
    found: list[Sct] = []

    def keep(every: tuple[Sct, ...]) -> tuple[Sct, ...]:
        found.extend(every)
        return every

    OURS.attest(PAYLOAD, at=NOW, subject=SUBJECT, issuer=ISSUER, hooks=Hooks(scts=keep))
    return tuple(found)


class _Sha384(Sct):
    """One that names SHA-384 (RFC 5246, section 7.4.1.4.1), and is signed by SHA-256 all the same."""

    @override
    def to_bytes(self) -> bytes:
        return Sct.to_bytes(self).replace(b"\0\0\x04\x03", b"\0\0\x05\x03", 1)


def by_sha384(every: tuple[Sct, ...]) -> tuple[Sct, ...]:
    return tuple(_Sha384(it.log_id, it.time, it.signature) for it in every)


def in_a_chain(it: Json) -> None:
    """The certificate as older bundles have it, and behind it a foreign root to trust."""
    material = it["verificationMaterial"]
    chain = [
        material.pop("certificate"),
        *({"rawBytes": encoded(one.public_bytes(Encoding.DER))} for one in THEIRS.ca.chain),
    ]
    material["x509CertificateChain"] = {"certificates": chain}


def stamped_twice(it: Json) -> None:
    stamps = it["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    stamps.append({"signedTimestamp": encoded(THEIRS.tsa.token(b"x", NOW))})


def stamped_over(part: str) -> Callable[[Json], None]:
    """A good timestamp in place of the first, over another part of the envelope than its signature."""

    def change(it: Json) -> None:
        token = OURS.tsa.token(base64.b64decode(it["dsseEnvelope"][part]), NOW)
        it["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0] = {
            "signedTimestamp": encoded(token)
        }

    return change


def within(token: bytes) -> bytes:
    """A byte flipped in the time that a timestamp tells."""
    digits = NOW.strftime("%Y%m%d%H%M%S").encode()
    assert token.count(digits) == 1
    return token.replace(digits, flip(digits))


def twice(it: Json) -> None:
    it["verificationMaterial"]["tlogEntries"] *= 2


def signatures(count: int) -> Callable[[Json], Json]:
    def change(it: Json) -> None:
        it["signatures"] *= count

    return edited(change)


def other_hashes(it: Proof) -> Proof:
    return replace(it, hashes=tuple(flip(one) for one in it.hashes) or (bytes(32),))


def unpromised(it: Json) -> None:
    del it["inclusionPromise"]


def untimed(it: Json) -> None:
    del it["inclusionPromise"]
    del it["integratedTime"]


def of_a_stranger(body: Json) -> Json:
    """The body of an entry with a stranger's key in place of the signer's."""
    pem = encoded(STRANGER.public.pem.encode())
    if body["kind"] == "dsse":
        return put(pem, "spec", "signatures", 0, "verifier")(body)
    return put(pem, "spec", "signature", "publicKey", "content")(body)


def blob_entry(it: Json) -> Json:
    """A body of another kind: about a file whose content is the envelope's payload."""
    entry = entry_of(OURS.sign_blob(PAYLOAD, at=NOW, key=KEY))
    body: Json = json.loads(base64.b64decode(entry["canonicalizedBody"]))
    return body


def spaced_body(it: Json) -> Json:
    """The same body with a blank behind it."""
    return it | {"canonicalizedBody": encoded(base64.b64decode(it["canonicalizedBody"]) + b" ")}


def other_signature(checkpoint: str) -> str:
    text, _, signature = checkpoint.rstrip("\n").rpartition(" ")
    return f"{text} {encoded(flip(base64.b64decode(signature)))}\n"


def resigned_checkpoint(text: str) -> str:
    return THEIRS.log.signed_note(text.rpartition("\n\n")[0] + "\n")


KEYLESS, KEYED = (False,), (True,)
TSA = {"tsa": True}
EARLIER = Window(end=NOW - HOUR)
LATER = Window(start=NOW + HOUR)
SPAN = "verificationMaterial", "tlogEntries", 0
