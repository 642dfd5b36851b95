"""`mvm verify --package`: the package that a file was published as, by the subject that has the file's digest."""

import hashlib
from typing import Any

import pytest

from mvmnix.errors import ReasonCode as Code
from tests.unit.cli.releases import Release, policy, signature, signed
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.foreign_world import ARTIFACT, V1

PACKAGE = "pkg:npm/%40scope/app@1.0.0"
OTHER = "pkg:npm/%40evil/app@1.0.0"
SHA512 = hashlib.sha512(ARTIFACT).hexdigest()
UNCHECKED = "not checked: the package's name"


def about(*names: str, **more: Any) -> bytes:
    statement = foreign.statement(V1, foreign.workflow())
    statement["subject"] = [{"name": name, "digest": {"sha512": SHA512} | more} for name in names]
    return signed(statement)


@pytest.mark.parametrize("asked", [PACKAGE, "pkg:npm/@scope/app@1.0.0", "pkg:npm/%40scope/app"])
def test_the_package_is_named(it: Release, asked: str) -> None:
    it.put(about(PACKAGE))
    said = it.verify("--package", asked, it.artifact)
    assert (said.code, f"package {PACKAGE}, signed by" in said.out, UNCHECKED in said.out) == (0, True, False), said.err
    answer = it.verify("--package", asked, "--json", it.artifact).answer("verdict")
    assert answer["artifacts"][0]["statements"][0]["package"] == PACKAGE


@pytest.mark.parametrize("name", [OTHER, PACKAGE.replace("1.0.0", "1.0.1"), "app-1.0.0.tgz"])
def test_another_package_is_refused(it: Release, name: str) -> None:
    it.put(about(name))
    assert it.verify(it.artifact).code == 0, "its digest is the file's"
    said = it.verify("--package", PACKAGE, it.artifact)
    assert (said.code, f"[{Code.SUBJECT_MISMATCH}]: expected {PACKAGE}, statement 1 of 1 says {name}" in said.err) == (
        1,
        True,
    )
    assert it.verify("--package", PACKAGE, "--json", it.artifact).reason_codes == [Code.SUBJECT_MISMATCH]


def test_two_statements_that_meet_half_of_it_each(it: Release) -> None:
    it.put(about(PACKAGE, sha256="0" * 64), about(OTHER))
    said = it.verify("--package", PACKAGE, "--json", it.artifact)
    assert said.reason_codes == [Code.SUBJECT_MISMATCH] * 2


def test_of_many_files_each_has_to_be_the_package(it: Release) -> None:
    """One that an earlier file was refused for is not taken for the next."""
    bundle = it.put(about(OTHER), about(PACKAGE))
    digests = (f"sha512:{SHA512}", f"sha512:{'0' * 128}")
    said = it.verify("--package", PACKAGE, "--bundle", bundle, "--json", *digests)
    assert [each["verified"] for each in said.answer("verdict")["artifacts"]] == [True, False]
    assert [each["number"] for each in said.answer("verdict")["artifacts"][0]["statements"]] == [2]


def test_a_policy_and_the_package(it: Release) -> None:
    it.put(about(OTHER, sha256=foreign.DIGEST.hex))
    whom = policy(it)
    assert it.verify("--policy", whom, it.artifact, key=None).code == 0
    said = it.verify("--policy", whom, "--package", PACKAGE, "--json", it.artifact, key=None)
    assert said.reason_codes == [Code.SUBJECT_MISMATCH]


def test_a_bare_signature_names_no_package(it: Release) -> None:
    it.put(signature())
    assert it.verify(it.artifact).code == 0
    assert it.verify("--package", PACKAGE, "--json", it.artifact).reason_codes == [Code.PREDICATE_TYPE]


def test_without_the_option_the_verdict_names_what_is_not_checked(it: Release) -> None:
    it.put(about(PACKAGE))
    said = it.verify(it.artifact)
    assert (said.code, UNCHECKED in said.out) == (0, True)
    (found,) = it.verify("--json", it.artifact).answer("verdict")["artifacts"]
    assert found["statements"][0]["package"] is None
    it.put(about("app.img"))
    assert UNCHECKED not in it.verify(it.artifact).out


@pytest.mark.parametrize(
    "text", ["", " ", "app@1.0.0", "pkg:npm/app@", "pkg:npm/app@1?a=b", "pkg:npm/app@1#lib", "pkg:npm/%40scope%2Fapp"]
)
def test_what_is_no_package_url_is_wrong_usage(it: Release, text: str) -> None:
    it.put(about(PACKAGE))
    said = it.verify("--package", text, it.artifact)
    assert (said.code, "--package" in said.err) == (2, True)
