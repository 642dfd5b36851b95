"""Bodies of log entries, of each kind that is known: read whole, and refused with anything else in any place."""

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mvmnix import strict
from mvmnix.model import Digest
from mvmnix.provenance import material, rekor_body
from mvmnix.provenance.rekor_body import Recorded
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
SPECS: dict[tuple[str, str], Any] = {
    ("dsse", "0.0.1"): {
        "envelopeHash": HASH,
        "payloadHash": HASH,
        "signatures": [{"signature": encoded(SIGNATURE), "verifier": PEM}],
    },
    ("intoto", "0.0.2"): {"content": {"envelope": ENVELOPE, "hash": HASH, "payloadHash": HASH}},
    ("hashedrekord", "0.0.1"): {
        "data": {"hash": HASH},
        "signature": {"content": encoded(SIGNATURE), "publicKey": {"content": PEM}},
    },
    ("hashedrekord", "0.0.2"): {
        "hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": encoded(bytes.fromhex(SIGNED.hex))},
            "signature": NEW_SIGNATURE,
        }
    },
}
#: What may be missing.
OPTIONAL = {"content.hash", "keyid", "payload"}
BODIES = {
    f"{kind} {version}": {"apiVersion": version, "kind": kind, "spec": spec} for (kind, version), spec in SPECS.items()
}


def read(name: str, body: Any) -> Recorded:
    (entry,) = material.keyless(json.loads(Case().bundle())["verificationMaterial"]).entries
    kind, version = name.split()
    return rekor_body.read(replace(entry, kind=kind, version=version, body=json.dumps(body).encode()))


@pytest.mark.parametrize("name", BODIES)
def test_what_each_kind_says(name: str) -> None:
    of_a_file = name.startswith("hashedrekord")
    said = Recorded(SIGNATURE, SPKI, None if of_a_file else SIGNED, SIGNED if of_a_file else None)
    assert read(name, BODIES[name]) == said
    if name == "intoto 0.0.2":
        bare = copy.deepcopy(BODIES[name])
        del bare["spec"]["content"]["hash"], bare["spec"]["content"]["envelope"]["payload"]
        del bare["spec"]["content"]["envelope"]["signatures"][0]["keyid"]
        assert read(name, bare) == said


SPOILED = [(name, *it) for name, body in BODIES.items() for it in spoiled(body, optional=OPTIONAL)]


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name, _, body in SPOILED], ids=[f"{name} {how}" for name, how, _ in SPOILED]
)
def test_nothing_else_in_any_place(name: str, body: Any) -> None:
    with pytest.raises(strict.MalformedError):
        read(name, body)


@pytest.mark.parametrize("name", ["dsse 0.0.1", "intoto 0.0.2"])
@pytest.mark.parametrize("count", [0, 2])
def test_one_signature(name: str, count: int) -> None:
    body: Any = copy.deepcopy(BODIES[name])
    holder = body["spec"] if name.startswith("dsse") else body["spec"]["content"]["envelope"]
    holder["signatures"] *= count
    with pytest.raises(strict.MalformedError):
        read(name, body)


def test_kinds_that_are_not_known() -> None:
    for name in ("dsse 0.0.2", "intoto 0.0.1", "rpm 0.0.1"):
        with pytest.raises(strict.MalformedError, match=f"of the kind {name} are not known"):
            read(name, {})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, ()),
        ({"payload": None}, ()),
        ({"signed": None}, ()),
        ({"payload": None, "signed": None}, ("payload or file",)),
        ({"payload": Digest.of(b"other")}, ("payload",)),
        ({"signed": Digest.of(b"other")}, ("file",)),
        ({"signature": b""}, ("signature",)),
        ({"verifier": b""}, ("key or certificate",)),
    ],
)
def test_what_an_entry_says_otherwise(changes: dict[str, Any], named: tuple[str, ...]) -> None:
    demanded = Recorded(SIGNATURE, SPKI, SIGNED, SIGNED)
    assert demanded.differences(replace(demanded, **changes)) == named
