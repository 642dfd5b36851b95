"""Both readers of what stands beside a signature read the same: that for bundles as mvm writes them, and the other."""

import json

import pytest

from mvmnix import strict
from mvmnix.provenance.bundle import verification_material
from tests.private_sigstore import Hooks
from tests.unit.provenance.forgeries import NOW, Case, edited, unpromised, untimed


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
    [("", "empty"), ("YQ", "not base64"), ("YQ==\n", "not base64"), ("YR==", "not the only base64"), ("YWJ=", "not")],
)
def test_bytes_that_are_none(text: str, words: str) -> None:
    assert strict.read({"it": "YQ=="}, "it", lambda record: verification_material.some_bytes(record, "it")) == b"a"
    with pytest.raises(strict.MalformedError, match=words):
        strict.read({"it": text}, "it", lambda record: verification_material.some_bytes(record, "it"))
