"""Bodies of log entries, of each kind that is known: read whole, and refused with anything else in any place."""

import base64
import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.provenance.bundle import verification_material
from mvmnix.provenance.identity import rekor_body
from mvmnix.provenance.identity.rekor_body import Expected, Recorded
from tests.unit.provenance.forgeries import KEY, Case, encoded
from tests.unit.provenance.spoiling import spoiled

SPKI = KEY.public.spki
PEM = encoded(load_der_public_key(SPKI).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
SIGNED, SIGNATURE = Digest.of(b"it"), b"signature"
HASH = {"algorithm": "sha256", "value": SIGNED.hex}
ENVELOPE = {
    "payloadType": "text/plain",
    "payload": "eA==",
    "signatures": [{"keyid": "any", "publicKey": PEM, "sig": encoded(encoded(SIGNATURE).encode())}],
}
NEW_SIGNATURE = {
    "content": encoded(SIGNATURE),
    "verifier": {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": {"rawBytes": encoded(SPKI)}},
}
OUTPUT = {"algorithm": "SHA2_256", "digest": encoded(bytes.fromhex(SIGNED.hex))}
SPECS: dict[tuple[str, str], Any] = {
    ("dsse", "0.0.1"): {
        "envelopeHash": HASH,
        "payloadHash": HASH,
        "signatures": [{"signature": encoded(SIGNATURE), "verifier": PEM}],
    },
    ("dsse", "0.0.2"): {"dsseV002": {"payloadHash": OUTPUT, "signatures": [NEW_SIGNATURE]}},
    ("intoto", "0.0.1"): {"content": {"hash": HASH, "payloadHash": HASH}, "publicKey": PEM},
    ("intoto", "0.0.2"): {"content": {"envelope": ENVELOPE, "hash": HASH, "payloadHash": HASH}},
    ("hashedrekord", "0.0.1"): {
        "data": {"hash": HASH},
        "signature": {"content": encoded(SIGNATURE), "publicKey": {"content": PEM}},
    },
    ("hashedrekord", "0.0.2"): {"hashedRekordV002": {"data": OUTPUT, "signature": NEW_SIGNATURE}},
}
#: What each says, besides who signed.
SAID: dict[tuple[str, str], dict[str, Any]] = {
    ("dsse", "0.0.1"): {"signature": SIGNATURE, "payload": SIGNED},
    ("dsse", "0.0.2"): {"signature": SIGNATURE, "payload": SIGNED},
    ("intoto", "0.0.1"): {"payload": SIGNED, "envelope": SIGNED},
    ("intoto", "0.0.2"): {"signature": SIGNATURE, "payload": SIGNED, "payload_type": "text/plain"},
    ("hashedrekord", "0.0.1"): {"signature": SIGNATURE, "signed": SIGNED},
    ("hashedrekord", "0.0.2"): {"signature": SIGNATURE, "signed": SIGNED},
}
#: What may be missing.
OPTIONAL = {"keyid", "payload"}
BODIES = {
    f"{kind} {version}": {"apiVersion": version, "kind": kind, "spec": spec} for (kind, version), spec in SPECS.items()
}


def read(name: str, body: Any) -> Recorded:
    (entry,) = verification_material.keyless(json.loads(Case().bundle())["verificationMaterial"]).entries
    kind, version = name.split()
    return rekor_body.read(replace(entry, kind=kind, version=version, body=json.dumps(body).encode()))


@pytest.mark.parametrize(("kind", "version"), SPECS)
def test_what_each_kind_says(kind: str, version: str) -> None:
    name = f"{kind} {version}"
    assert read(name, BODIES[name]) == Recorded(SPKI, **SAID[kind, version])


def test_what_may_be_missing() -> None:
    bare: Any = copy.deepcopy(BODIES)
    del bare["intoto 0.0.1"]["spec"]["content"]["payloadHash"]
    assert read("intoto 0.0.1", bare["intoto 0.0.1"]) == Recorded(SPKI, envelope=SIGNED)
    content = bare["intoto 0.0.2"]["spec"]["content"]
    del content["hash"], content["envelope"]["payload"], content["envelope"]["signatures"][0]["keyid"]
    assert read("intoto 0.0.2", bare["intoto 0.0.2"]) == Recorded(SPKI, **SAID["intoto", "0.0.2"])


#: Of one kind alone.
MISSING = {"intoto 0.0.1": {"content.payloadHash"}, "intoto 0.0.2": {"content.hash"}}
SPOILED = [
    (name, *it) for name, body in BODIES.items() for it in spoiled(body, optional=OPTIONAL | MISSING.get(name, set()))
]


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name, _, body in SPOILED], ids=[f"{name} {how}" for name, how, _ in SPOILED]
)
def test_nothing_else_in_any_place(name: str, body: Any) -> None:
    with pytest.raises(strict.MalformedError):
        read(name, body)


@pytest.mark.parametrize("name", ["dsse 0.0.1", "dsse 0.0.2", "intoto 0.0.2"])
@pytest.mark.parametrize("count", [0, 2])
def test_one_signature(name: str, count: int) -> None:
    body: Any = copy.deepcopy(BODIES[name])
    spec = body["spec"]
    holder = {"dsse 0.0.2": lambda: spec["dsseV002"], "intoto 0.0.2": lambda: spec["content"]["envelope"]}.get(
        name, lambda: spec
    )()
    holder["signatures"] *= count
    with pytest.raises(strict.MalformedError):
        read(name, body)


def test_a_key_of_another_curve() -> None:
    """prime192v2 (RFC 5480), which the library doesn't have."""
    spki = SPKI.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030102"))
    body: Any = copy.deepcopy(BODIES["dsse 0.0.1"])
    pem = f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(spki).decode()}-----END PUBLIC KEY-----\n"
    body["spec"]["signatures"][0]["verifier"] = encoded(pem.encode())
    with pytest.raises(strict.MalformedError, match="of a kind that mvm does not know"):
        read("dsse 0.0.1", body)


def test_kinds_that_are_not_known() -> None:
    for name in ("dsse 0.0.3", "intoto 0.0.3", "rpm 0.0.1"):
        with pytest.raises(strict.MalformedError, match=f"of the kind {name} are not known"):
            read(name, {})


OTHER = Digest.of(b"other")
ENVELOPE_UNKNOWN = "envelope, or one in another formatting than those that are known"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, ()),
        ({"payload": None, "payload_type": None}, ()),
        ({"signed": None}, ()),
        ({"payload": None, "signed": None}, ()),
        ({"payload": None, "signed": None, "envelope": None}, ("payload or file",)),
        ({"payload": OTHER}, ("payload",)),
        ({"signed": OTHER}, ("file",)),
        ({"payload_type": "x"}, ("payload type",)),
        ({"signature": b""}, ("signature",)),
        ({"signature": None}, ()),
        ({"signature": None, "envelope": OTHER}, (ENVELOPE_UNKNOWN,)),
        ({"signature": None, "envelope": None}, (ENVELOPE_UNKNOWN,)),
        ({"verifier": b""}, ("key or certificate",)),
    ],
)
def test_what_an_entry_says_otherwise(changes: dict[str, Any], named: tuple[str, ...]) -> None:
    demanded = Expected(SPKI, SIGNATURE, SIGNED, SIGNED, "text/plain", frozenset({SIGNED}))
    found = Recorded(SPKI, SIGNATURE, SIGNED, SIGNED, "text/plain", SIGNED)
    assert demanded.differences(replace(found, **changes)) == named
