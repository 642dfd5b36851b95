"""Both readers of what stands beside a signature read the same: that for bundles as mvm writes them, and the other."""

import json
from typing import Any

import pytest

from mvmnix.formats import strict
from mvmnix.provenance.bundle import verification_material
from mvmnix.provenance.bundle.verification_material import Material
from tests.private_sigstore import Hooks
from tests.unit.provenance.forgeries import NOW, TSA, Case, edited, encoded, put, unpromised, untimed

ROOT = encoded(bytes(32))


@pytest.mark.parametrize(
    ("it", "has_time", "has_promise"),
    [
        (Case(), True, True),
        (Case(hooks=Hooks(entry=edited(unpromised))), True, False),
        (Case(hooks=Hooks(entry=edited(untimed))), False, False),
    ],
)
def test_the_quick_reader_reads_what_the_other_reads(it: Case, *, has_time: bool, has_promise: bool) -> None:
    value = json.loads(it.bundle())["verificationMaterial"]
    quick = verification_material.keyless(value)
    assert quick == strict.read(value, "material", verification_material.material)
    assert json.loads(strict.canonical(quick.to_value())) == value
    assert quick.entries[0].integrated == (int(NOW.timestamp()) if has_time else None)
    assert (quick.entries[0].promise is not None) is has_promise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("YQ", "not base64"),
        ("YQ==\n", "not base64"),
        ("YR==", "not the only base64"),
        ("YWJ=", "not"),
        ("YWJjZB==", "not the only"),
    ],
)
def test_bytes_that_are_none(text: str, words: str) -> None:
    assert strict.read({"it": "YQ=="}, "it", lambda record: verification_material.some_bytes(record, "it")) == b"a"
    with pytest.raises(strict.MalformedError, match=words):
        strict.read({"it": text}, "it", lambda record: verification_material.some_bytes(record, "it"))


def read(value: Any) -> Material:
    return strict.read(value, "material", verification_material.material)


#: Fields of a bundle's material, with the largest value that each may have and the smallest that it may not.
BOUNDS: dict[str, tuple[Any, Any, tuple[str | int, ...]]] = {
    "64 bits": (str(2**63 - 1), str(2**63), ("tlogEntries", 0, "logIndex")),
    "a path": ([ROOT] * 63, [ROOT] * 64, ("tlogEntries", 0, "inclusionProof", "hashes")),
    "bytes": (encoded(bytes(49_152)), encoded(bytes(49_155)), ("tlogEntries", 0, "logId", "keyId")),
    "some bytes": ("AA==", "", ("tlogEntries", 0, "inclusionProof", "rootHash")),
}


@pytest.mark.parametrize("text", ["", "01", "-1", "+1", " 1", "1_0", "\uff11", "x", str(2**64), "1" * 5000])
def test_numbers_that_are_none(text: str) -> None:
    """Protobuf's JSON has 64-bit integers as decimal text; here in one form alone."""
    value = json.loads(Case().bundle())["verificationMaterial"]
    for number in ("0", "1", "10"):
        assert read(put(number, "tlogEntries", 0, "logIndex")(value)).entries[0].index == int(number)
    with pytest.raises(strict.MalformedError, match="not a 64-bit integer in its only decimal form"):
        read(put(text, "tlogEntries", 0, "logIndex")(value))


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_the_same_for_both_readers(name: str) -> None:
    most, more, path = BOUNDS[name]
    value = json.loads(Case().bundle())["verificationMaterial"]
    good, bad = (put(it, *path)(value) for it in (most, more))
    assert verification_material.keyless(good) == read(good)
    for reader in (verification_material.keyless, read):
        with pytest.raises(ValueError, match=r".+"):
            reader(bad)


def test_how_many_entries_timestamps_and_certificates_there_are() -> None:
    value = json.loads(Case(options=TSA).bundle())["verificationMaterial"]
    stamps = value["timestampVerificationData"]["rfc3161Timestamps"]
    chain = {name: it for name, it in value.items() if name != "certificate"}
    for count in (16, 17):
        for many in (
            put(value["tlogEntries"] * count, "tlogEntries")(value),
            put(stamps * count, "timestampVerificationData", "rfc3161Timestamps")(value),
            chain | {"x509CertificateChain": {"certificates": [value["certificate"]] * count}},
        ):
            if count == 16:
                assert read(many).certificate == read(value).certificate
            else:
                with pytest.raises(strict.MalformedError, match="not an array of at most 16 values"):
                    read(many)
