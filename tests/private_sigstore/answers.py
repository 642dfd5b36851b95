"""Packs bundles as package registries answer with them: npm, GitHub, and PyPI by PEP 740."""

import json

from tests.private_sigstore.hooks import Json
from tests.private_sigstore.keys import decode


def npm(*bundles: bytes) -> Json:
    """npm's attestations of a package version; the predicate type stands beside each bundle."""
    return {"attestations": [{"predicateType": predicate_type(each), "bundle": json.loads(each)} for each in bundles]}


def github(*bundles: bytes) -> Json:
    """GitHub's attestations of a digest."""
    told = {"repository_id": 1, "bundle_url": "https://storage.example/1.json.sn", "initiator": "user"}
    return {"attestations": [{"bundle": json.loads(each), **told} for each in bundles]}


def pypi(bundle: bytes) -> Json:
    """An attestation by PEP 740: the parts of a bundle under other names."""
    value = json.loads(bundle)
    material, envelope = value["verificationMaterial"], value["dsseEnvelope"]
    return {
        "version": 1,
        "verification_material": {
            "certificate": material["certificate"]["rawBytes"],
            "transparency_entries": material["tlogEntries"],
        },
        "envelope": {"statement": envelope["payload"], "signature": envelope["signatures"][0]["sig"]},
    }


def pypi_provenance(*bundles: bytes) -> Json:
    """PyPI's provenance object of a file."""
    publisher = {"kind": "GitHub", "repository": "org/app", "workflow": "release.yml", "environment": None}
    return {
        "version": 1,
        "attestation_bundles": [{"publisher": publisher, "attestations": [pypi(each) for each in bundles]}],
    }


def predicate_type(bundle: bytes) -> str:
    """That of the statement in a bundle."""
    kind: str = json.loads(decode(json.loads(bundle)["dsseEnvelope"]["payload"]))["predicateType"]
    return kind
