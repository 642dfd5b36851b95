"""Files whose statements name them by SHA-384 or SHA-512, and files that are named by their digest alone."""

import hashlib
from pathlib import Path

import pytest

from mvmnix.api import files
from mvmnix.errors import ReasonCode as Code
from tests.unit.cli.releases import Release, policy, signature, signed
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import ARTIFACT, V1

ALGORITHMS = ("sha256", "sha384", "sha512")
OWN = {name: hashlib.new(name, ARTIFACT).hexdigest() for name in ALGORITHMS}


def about(**digests: str) -> bytes:
    statement = foreign.statement(V1, foreign.workflow())
    statement["subject"] = [{"name": "pkg:npm/app@1.0.0", "digest": digests}]
    return signed(statement)


def test_a_file_by_one_digest(it: Release) -> None:
    """Several of them are rows of tests/unit/provenance/verify/test_requirements.py."""
    it.put(about(sha512=OWN["sha512"]))
    assert it.verify(it.artifact).code == 0
    it.artifact.write_bytes(b"another")
    assert it.verify("--json", it.artifact).reason_codes == [Code.SUBJECT_MISMATCH]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_digest_in_place_of_the_file(it: Release, name: str) -> None:
    bundle = it.put(about(**OWN))
    said = it.verify("--bundle", bundle, "--json", f"{name}:{OWN[name]}")
    assert (said.code, said.answer("verdict")["artifacts"][0]["digest"]) == (0, f"{name}:{OWN[name]}")
    other = f"{name}:{'0' * len(OWN[name])}"
    assert it.verify("--bundle", bundle, "--json", other).reason_codes == [Code.SUBJECT_MISMATCH]


@pytest.mark.parametrize("name", ["sha384", "sha512"])
def test_what_another_digest_is_not_enough_for(it: Release, name: str) -> None:
    """Bare signatures and revocations are about a SHA-256."""
    bundle = it.put(signature())
    assert it.verify(it.artifact).code == 0
    said = it.verify("--bundle", bundle, "--json", f"{name}:{OWN[name]}")
    assert said.reason_codes == [Code.SUBJECT_MISMATCH, Code.SIGNATURE_INVALID]
    it.put(about(**OWN))
    said = it.verify("--policy", policy(it), "--bundle", bundle, f"{name}:{OWN[name]}", key=None)
    assert (said.code, "revocations.toml names files by" in said.err) == (2, True)


@pytest.mark.parametrize(
    "text", ["sha512:00", f"sha512:{OWN['sha256']}", f"sha1:{'0' * 40}", f"SHA512:{OWN['sha512']}"]
)
def test_what_is_no_digest_is_a_file_that_is_not_there(it: Release, text: str) -> None:
    assert it.verify("--bundle", it.bundle, text).code == 2


def test_a_file_that_changes_while_it_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(ARTIFACT)
    blob = files.blob(str(path))
    assert blob.is_named(OWN)
    again = files.blob(str(path))
    path.write_bytes(b"another")
    assert blob.others is not None and again.others is not None
    assert blob.others() == {name: OWN[name] for name in ("sha384", "sha512")}, "of the bytes that were hashed"
    with pytest.raises(ValueError, match="changed while"):
        again.is_named(OWN)
    path.unlink()
    with pytest.raises(ValueError, match="read again"):
        again.is_named(OWN)
