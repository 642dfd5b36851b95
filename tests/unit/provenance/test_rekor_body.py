"""Bodies of log entries, of each kind that is known: read whole, and refused with anything else in any place."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mvmnix import strict
from mvmnix.model import Digest
from mvmnix.provenance import material, rekor_body
from mvmnix.provenance.rekor_body import Recorded
from tests.unit.provenance.forgeries import KEY, Case, encoded

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
OPTIONAL = {"hash", "keyid", "payload"}
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


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


PLACES = [(name, path) for name, body in BODIES.items() for path in places(body)]


@pytest.mark.parametrize(("name", "path"), PLACES, ids=[f"{name} {'.'.join(map(str, it))}" for name, it in PLACES])
def test_nothing_else_in_any_place(name: str, path: tuple[Any, ...]) -> None:
    *outer, last = path
    for change in ("drop", "number", "text", "more"):
        body: Any = copy.deepcopy(BODIES[name])
        within = body
        for key in outer:
            within = within[key]
        match change:
            case "drop" if last not in OPTIONAL or within is body["spec"]:
                del within[last]
            case "number":
                within[last] = 7
            case "text":
                within[last] = "\0"
            case "more" if isinstance(within[last], dict):
                within[last]["more"] = 7
            case "more" if isinstance(within[last], list):
                within[last] *= 2
            case _:
                continue
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
