"""Bundles in each version of Sigstore's format, with proof or without."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import strict
from mvmnix.provenance.verify.authentication import Attested, authenticate_foreign, read_foreign
from tests.private_sigstore import Hooks, Json, Sigstore
from tests.support.refusals import refusal_codes
from tests.unit.provenance.forgeries import (
    OURS,
    Case,
    edited,
    encoded,
)

MEDIA = {
    "0.1": "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "0.2": "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "0.3": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "0.3, as some wrote it": "application/vnd.dev.sigstore.bundle+json;version=0.3",
}


def check(it: Case, data: bytes | None = None, *, inclusion: bool = False) -> Attested:
    trust = replace(it.trust, require_inclusion=inclusion)
    read = read_foreign(it.bundle() if data is None else data, "it")
    return authenticate_foreign(read, trust=trust, what="it")


def refused(it: Case, data: bytes | None = None, *, inclusion: bool = False) -> set[Code]:
    return set(refusal_codes(check, it, data, inclusion=inclusion))


def of_version(version: str, *changes: Callable[[Json], Any]) -> Hooks:
    """A bundle of a version, with the certificate where that version has it."""

    def change(it: Json) -> None:
        material = it["verificationMaterial"]
        if version in {"0.1", "0.2"} and "certificate" in material:
            above = OURS.ca.intermediate.public_bytes(Encoding.DER)
            chain = [material.pop("certificate"), {"rawBytes": encoded(above)}]
            material["x509CertificateChain"] = {"certificates": chain}
        it["mediaType"] = MEDIA[version]
        for each in changes:
            each(it)

    return Hooks(bundle=edited(change))


def proofless(it: Json) -> None:
    for entry in it["verificationMaterial"]["tlogEntries"]:
        entry.pop("inclusionProof", None)


def without_log(it: Sigstore = OURS, *names: str) -> bytes:
    value = json.loads(it.trusted_root)
    for name in names or ("tlogs", "ctlogs"):
        del value[name]
    return strict.canonical(value)
