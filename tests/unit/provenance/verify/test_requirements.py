"""A statement of another tool counts for a file when it alone meets every requirement; each that it fails is named."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.slsa import foreign_builds, in_toto, predicate
from mvmnix.provenance.slsa.foreign_builds import BuildSource
from mvmnix.provenance.slsa.in_toto import PackageUrl
from mvmnix.provenance.slsa.provenance import RootTree
from mvmnix.provenance.verify import requirements
from mvmnix.provenance.verify.requirements import Requirements, StatementPosition
from tests.unit.provenance import world as worlds
from tests.unit.provenance.foreign_world import (
    ARTIFACT,
    COMMIT,
    DIGEST,
    GENERATOR,
    REF,
    REPOSITORY,
    TAG,
    V0_2,
    V1,
    generator,
    statement,
    to_bytes,
    unmet,
    workflow,
)

PLACE = StatementPosition("app.img", 2, 3, "the release key")
ALL = Requirements(V1, REPOSITORY, TAG, COMMIT, GENERATOR)
OTHER = Digest.of(b"another")


def found(value: Any, wanted: Requirements = ALL, artifact: Digest = DIGEST, blob: Blob | None = None) -> list[Code]:
    data = value if isinstance(value, bytes) else to_bytes(value)
    return [reason.code for reason in unmet(data, blob or Blob(artifact), wanted, PLACE)]


def put(value: Any, *path: str | int, to: Any) -> Any:
    here = value
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = to
    return value


@pytest.mark.parametrize(("kind", "made"), [(V1, workflow), (V0_2, generator)])
@pytest.mark.parametrize("version", ["v1", "v0.1"])
@pytest.mark.parametrize("uri", [REPOSITORY, f"git+{REPOSITORY}", REPOSITORY.removeprefix("https://")])
def test_all_requirements_are_met(kind: str, made: Callable[[], Any], version: str, uri: str) -> None:
    wanted = Requirements(kind, uri, TAG, COMMIT, GENERATOR)
    assert found(statement(kind, made(), version=version), wanted) == []
    assert found(statement(kind, made(), OTHER, DIGEST, version=version), wanted) == []


@pytest.mark.parametrize(("kind", "made"), [(V1, workflow), (V0_2, generator)])
@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"predicate_type": "https://spdx.dev/Document"}, Code.PREDICATE_TYPE),
        ({"source_uri": REPOSITORY + "2"}, Code.SOURCE_MISMATCH),
        ({"source_uri": REPOSITORY[:-1]}, Code.SOURCE_MISMATCH),
        ({"source_tag": "v1.2"}, Code.SOURCE_MISMATCH),
        ({"source_tag": REF}, Code.SOURCE_MISMATCH),
        ({"source_digest": "6" * 40}, Code.SOURCE_MISMATCH),
        ({"source_digest": COMMIT[:-1]}, Code.SOURCE_MISMATCH),
        ({"builder_id": GENERATOR.partition("@")[0]}, Code.BUILDER_MISMATCH),
    ],
)
def test_each_requirement_alone(kind: str, made: Callable[[], Any], wanted: dict[str, Any], code: Code) -> None:
    assert found(statement(kind, made()), Requirements(**wanted)) == [code]
    assert found(statement(kind, made()), Requirements()) == []


def test_all_reasons_at_once_and_as_people_read_them() -> None:
    wanted = Requirements(V0_2, "https://git.example/evil", "v9", "9" * 40, "https://other.example/builder")
    reasons = unmet(to_bytes(statement(V1, workflow())), Blob(OTHER), wanted, PLACE)
    assert [reason.code for reason in reasons] == [
        Code.SUBJECT_MISMATCH,
        Code.PREDICATE_TYPE,
        Code.BUILDER_MISMATCH,
        *[Code.SOURCE_MISMATCH] * 3,
    ]
    assert str(reasons[3]) == (
        f"app.img: refused [source-mismatch]: expected https://git.example/evil, statement 2 of 3 says {REPOSITORY} "
        f"(signer the release key). Next: {reasons[3].hint}"
    )


def test_a_source_that_says_neither_reference_nor_commit() -> None:
    made, source = generator(), {"uri": f"git+{REPOSITORY}", "digest": {}}
    made["invocation"]["configSource"], made["materials"] = source, [source]
    wanted = Requirements(source_tag=TAG, source_digest=COMMIT)
    reasons = unmet(to_bytes(statement(V0_2, made)), Blob(DIGEST), wanted, PLACE)
    assert [reason.why for reason in reasons] == [
        f"expected refs/tags/{TAG}, statement 2 of 3 says no git reference (signer the release key)",
        f"expected commit {COMMIT}, statement 2 of 3 says no commit (signer the release key)",
    ]
    said = generator(ref="refs/heads/main", commit="6" * 40)
    other = unmet(to_bytes(statement(V0_2, said)), Blob(DIGEST), wanted, PLACE)
    assert [reason.why for reason in other] == [
        f"expected refs/tags/{TAG}, statement 2 of 3 says refs/heads/main (signer the release key)",
        f"expected commit {COMMIT}, statement 2 of 3 says commit {'6' * 40} (signer the release key)",
    ]


def test_a_branch_that_is_called_like_a_tag_is_none() -> None:
    """Nor is a pull request, `refs/pull/`, which has as many letters."""
    branches = ("refs/heads/v1.2.3", "refs/heads/refs/tags/v1.2.3", "refs/pull/v1.2.3")
    for ref in (*branches, "tags/v1.2.3", "v1.2.3", "tag v1.2.3"):
        value = statement(V1, workflow(ref=ref))
        wanted = Requirements(source_tag=TAG)
        assert set(found(value, wanted)) == {Code.STATEMENT_MALFORMED if " " in ref else Code.SOURCE_MISMATCH}


#: The file with its other digests, as whoever has its bytes knows them.
OWN = {name: hashlib.new(name, ARTIFACT).hexdigest() for name in ("sha384", "sha512")}
WHOLE = Blob(DIGEST, others=lambda: OWN)
WEAK = {name: hashlib.new(name, ARTIFACT).hexdigest() for name in ("sha1", "md5", "sha224", "sha3_256", "blake2b")}


@pytest.mark.parametrize(
    ("digests", "codes"),
    [
        ({"sha256": DIGEST.hex}, []),
        ({"sha384": OWN["sha384"]}, []),
        ({"sha512": OWN["sha512"]}, []),
        (OWN | {"sha256": DIGEST.hex}, []),
        (WEAK | {"sha512": OWN["sha512"]}, []),
        ({"sha512": OWN["sha512"], "sha1": "0" * 40, "gitCommit": COMMIT}, []),
        ({"sha512": "0" * 128}, [Code.SUBJECT_MISMATCH]),
        ({"sha384": "0" * 96}, [Code.SUBJECT_MISMATCH]),
        ({"sha256": DIGEST.hex, "sha512": "0" * 128}, [Code.SUBJECT_MISMATCH]),
        ({"sha256": OTHER.hex, "sha512": OWN["sha512"]}, [Code.SUBJECT_MISMATCH]),
        (OWN | {"sha384": "0" * 96}, [Code.SUBJECT_MISMATCH]),
        (OWN | {"sha256": OTHER.hex}, [Code.SUBJECT_MISMATCH]),
        (OWN | {"sha256": DIGEST.hex, "sha512": "0" * 128}, [Code.SUBJECT_MISMATCH]),
        (WEAK, [Code.SUBJECT_MISMATCH]),
        ({"sha512": OWN["sha512"].upper()}, [Code.STATEMENT_MALFORMED]),
        ({"sha512": OWN["sha512"][:64]}, [Code.STATEMENT_MALFORMED]),
        ({"sha384": OWN["sha512"]}, [Code.STATEMENT_MALFORMED]),
        ({"sha512": 1}, [Code.STATEMENT_MALFORMED]),
        ({"sha512": None}, [Code.STATEMENT_MALFORMED]),
    ],
)
def test_all_digests_of_a_subject_have_to_be_the_files(digests: dict[str, Any], codes: list[Code]) -> None:
    value = put(statement(V1, workflow()), "subject", 0, "digest", to=digests)
    assert found(value, blob=WHOLE) == codes


def test_digests_of_two_subjects_are_not_put_together() -> None:
    first, second = {"sha256": DIGEST.hex, "sha512": "0" * 128}, {"sha256": OTHER.hex, "sha512": OWN["sha512"]}
    value = statement(V1, workflow()) | {"subject": [{"digest": first}, {"digest": second}]}
    assert found(value, blob=WHOLE) == [Code.SUBJECT_MISMATCH]
    assert found(value | {"subject": [{"digest": first}, {"digest": OWN}]}, blob=WHOLE) == []


PACKAGE = "pkg:npm/%40scope/app@1.0.0"
OTHER_SCOPE, OTHER_VERSION = PACKAGE.replace("scope", "evil"), PACKAGE.replace("1.0.0", "1.0.1")


def subjects(*pairs: tuple[str | None, str]) -> Any:
    """A statement about these names and SHA-512s, as npm writes it."""
    named = ({} if name is None else {"name": name} for name, _ in pairs)
    about = [name | {"digest": {"sha512": digest}} for name, (_, digest) in zip(named, pairs, strict=True)]
    return statement(V1, workflow()) | {"subject": about}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ([(PACKAGE, OWN["sha512"])], None),
        ([("pkg:npm/@sc%6Fpe/app@1.0.0", OWN["sha512"])], None),
        ([(OTHER_SCOPE, OWN["sha512"]), (PACKAGE, OWN["sha512"])], None),
        ([(OTHER_SCOPE, OWN["sha512"])], OTHER_SCOPE),
        ([(OTHER_VERSION, OWN["sha512"])], OTHER_VERSION),
        ([("pkg:npm/%40scope/app", OWN["sha512"])], "pkg:npm/%40scope/app"),
        ([(PACKAGE, "0" * 128), (OTHER_SCOPE, OWN["sha512"])], OTHER_SCOPE),
        ([(PACKAGE + "?arch=x", OWN["sha512"])], PACKAGE + "?arch=x"),
        ([("app-1.0.0.tgz", OWN["sha512"])], "app-1.0.0.tgz"),
        ([("", OWN["sha512"])], "no name"),
        ([(None, OWN["sha512"])], "no name"),
        ([(OTHER_SCOPE, OWN["sha512"])] * 6, OTHER_SCOPE),
        (
            [(f"pkg:npm/{each}", OWN["sha512"]) for each in "abcdef"],
            "pkg:npm/a, pkg:npm/b, pkg:npm/c, pkg:npm/d and 2 more",
        ),
        ([(PACKAGE, "0" * 128)], f"sha512:{'0' * 128}"),
    ],
)
def test_one_subject_has_to_name_the_package_and_the_file(
    named: list[tuple[str | None, str]], said: str | None
) -> None:
    reasons = unmet(to_bytes(subjects(*named)), WHOLE, Requirements(package=PackageUrl.parse(PACKAGE)), PLACE)
    assert [reason.code for reason in reasons] == ([] if said is None else [Code.SUBJECT_MISMATCH])
    for reason in reasons:
        expected = PACKAGE if "sha512:" not in str(said) else str(WHOLE)
        assert reason.why == f"expected {expected}, statement 2 of 3 says {said} (signer the release key)"
    assert found(subjects(*named), Requirements(), blob=WHOLE) == (
        [Code.SUBJECT_MISMATCH] if "sha512:" in str(said) else []
    )


def test_a_package_of_any_version() -> None:
    wanted = Requirements(package=PackageUrl.parse("pkg:npm/%40scope/app"))
    for name, codes in ((PACKAGE, []), (OTHER_VERSION, []), (OTHER_SCOPE, [Code.SUBJECT_MISMATCH])):
        assert found(subjects((name, OWN["sha512"])), wanted, blob=WHOLE) == codes


def test_a_file_that_changes_meanwhile() -> None:
    def changed() -> dict[str, str]:
        raise ValueError("the file changed while it was verified")

    value = put(statement(V1, workflow()), "subject", 0, "digest", to=OWN)
    assert found(value, blob=Blob(DIGEST, others=changed)) == [Code.SUBJECT_MISMATCH]
    known = put(value, "subject", 0, "digest", to={"sha256": DIGEST.hex})
    assert found(known, blob=Blob(DIGEST, others=changed)) == [], "nothing else is asked of the file"


@pytest.mark.parametrize("name", OWN)
def test_a_file_that_is_known_by_another_digest(name: str) -> None:
    named = Blob(None, others=lambda: {name: OWN[name]})
    for digests, codes in (
        (OWN, []),
        (OWN | {"sha256": OTHER.hex}, []),  # which can't be compared: there is no file
        ({"sha256": DIGEST.hex}, [Code.SUBJECT_MISMATCH]),
        ({each: "0" * len(OWN[each]) for each in OWN}, [Code.SUBJECT_MISMATCH]),
    ):
        assert found(put(statement(V1, workflow()), "subject", 0, "digest", to=digests), blob=named) == codes
    assert str(named) == f"{name}:{OWN[name]}"


def test_a_digest_alone_is_compared_with_its_own_kind() -> None:
    for digest in ({"sha512": "0" * 128}, {"sha1": DIGEST.hex[:40]}, {"gitCommit": COMMIT}, {}):
        value = put(statement(V1, workflow()), "subject", 0, "digest", to=digest)
        assert found(value) == [Code.SUBJECT_MISMATCH]
    both = put(statement(V1, workflow()), "subject", 0, "digest", to={"sha256": DIGEST.hex, "sha512": "0" * 128})
    assert found(both) == []
    (reason,) = unmet(to_bytes(statement(V1, workflow()) | {"subject": []}), Blob(DIGEST), Requirements(), PLACE)
    assert "statement 2 of 3 says no file's SHA-256, SHA-384 or SHA-512 (signer" in reason.why


@pytest.mark.parametrize(
    ("count", "shown", "more"), [(1, 1, ""), (4, 4, ""), (5, 4, " and 1 more"), (9, 4, " and 5 more")]
)
def test_how_many_files_a_reason_names(count: int, shown: int, more: str) -> None:
    several = statement(V1, workflow(), *(Digest.of(bytes([n])) for n in range(count)))
    (reason,) = unmet(to_bytes(several), Blob(DIGEST), Requirements(), PLACE)
    assert reason.why.count("sha256:") == 1 + shown, "the one that was expected is named too"
    assert reason.why.endswith(f"{more} (signer the release key)")
    assert (" more (signer" in reason.why) is bool(more)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"_type": "x", "_type": "x"}',
        to_bytes(statement(V1, {}, version="v2")),
        to_bytes(statement(V1, {}, version="v0.2")),
        to_bytes(statement("", {})),
        to_bytes(statement(V1, {}) | {"predicate": []}),
        to_bytes(statement(V1, {}) | {"subject": {}}),
        to_bytes(put(statement(V1, {}), "subject", 0, "digest", "sha256", to=DIGEST.hex.upper())),
        to_bytes(put(statement(V1, {}), "subject", 0, "digest", "sha256", to=5)),
        to_bytes(statement(V1, {"deep": json.loads("[" * 40 + "]" * 40)})),
        to_bytes(statement(V1, {})).replace(b'"predicate": {}', b'"predicate": {"a": NaN}'),
        to_bytes(statement(V1, {})).replace(b'"predicate": {}', b'"predicate": {"a": 1e999}'),
        to_bytes(statement(V1, {})).replace(b'"predicate": {}', b'"predicate": {"a": 1' + b"0" * 5000 + b"}"),
        to_bytes(statement(V1, {})).replace(b'"predicate": {}', b'"predicate": {"a": "\\ud800"}'),
        to_bytes(statement(V1, {})).replace(b'"predicate": {}', b'"predicate": {"a": 1, "a": 2}'),
    ],
)
def test_what_is_no_statement(data: bytes) -> None:
    assert set(found(data, Requirements())) == {Code.STATEMENT_MALFORMED}


def test_other_tools_have_fractions_and_fields_of_their_own() -> None:
    value = statement("https://example.test/scan/v1", {"score": 9.8, "small": 1e-3}, annotations={"a": "b"})
    value["subject"][0] |= {"uri": "pkg:generic/app", "annotations": {"x": 1}}
    assert found(value, Requirements("https://example.test/scan/v1")) == []
    assert found({key: value[key] for key in value if key != "predicate"}, Requirements()) == []


@pytest.mark.parametrize(
    ("code", "path", "to"),
    [
        (Code.BUILD_TYPE, ("buildDefinition", "buildType"), "https://example.test/build/v1"),
        (Code.BUILD_TYPE, ("buildDefinition", "buildType"), "https://actions.github.io/buildtypes/workflow/v2"),
        (Code.EXTERNAL_PARAMETERS, ("buildDefinition", "externalParameters", "checkout"), {"ref": "evil"}),
        (Code.DEPENDENCY_MISMATCH, ("buildDefinition", "resolvedDependencies"), []),
        (Code.DEPENDENCY_MISMATCH, ("buildDefinition", "resolvedDependencies", 0, "uri"), f"git+{REPOSITORY}"),
        (Code.DEPENDENCY_MISMATCH, ("buildDefinition", "externalParameters", "workflow", "ref"), "refs/tags/v9"),
        (Code.STATEMENT_MALFORMED, ("buildDefinition", "externalParameters", "workflow", "repository"), None),
        (Code.STATEMENT_MALFORMED, ("buildDefinition", "externalParameters"), "none"),
        (Code.STATEMENT_MALFORMED, ("buildDefinition", "resolvedDependencies", 0, "digest", "gitCommit"), "main"),
        (Code.STATEMENT_MALFORMED, ("buildDefinition", "resolvedDependencies", 0, "digest", "sha1"), "6" * 40),
    ],
)
def test_a_source_that_is_not_understood_is_not_guessed(code: Code, path: tuple[str | int, ...], to: Any) -> None:
    value = statement(V1, put(workflow(), *path, to=to))
    assert code in found(value, Requirements(source_uri=REPOSITORY))
    assert found(value, Requirements(builder_id=GENERATOR)) == []


def test_two_commits_of_one_source() -> None:
    made = workflow()
    dependencies = made["buildDefinition"]["resolvedDependencies"]
    dependencies.append(dependencies[0] | {"digest": {"gitCommit": "6" * 40}})
    assert found(statement(V1, made), Requirements(source_uri=REPOSITORY)) == [Code.DEPENDENCY_MISMATCH]


@pytest.mark.parametrize(
    ("code", "path", "to"),
    [
        (Code.DEPENDENCY_MISMATCH, ("materials",), []),
        (Code.DEPENDENCY_MISMATCH, ("materials", 0, "uri"), f"git+{REPOSITORY}@refs/heads/main"),
        (Code.DEPENDENCY_MISMATCH, ("materials", 0), {"uri": f"git+{REPOSITORY}@{REF}", "digest": {"sha1": "6" * 40}}),
        (Code.EXTERNAL_PARAMETERS, ("invocation", "parameters"), {"ref": "evil"}),
        (Code.EXTERNAL_PARAMETERS, ("invocation", "parameters"), "evil"),
        (Code.STATEMENT_MALFORMED, ("invocation", "configSource"), {}),
        (Code.STATEMENT_MALFORMED, ("invocation",), None),
    ],
)
def test_a_source_of_version_0_2_came_in(code: Code, path: tuple[str | int, ...], to: Any) -> None:
    value = statement(V0_2, put(generator(), *path, to=to))
    assert code in found(value, Requirements(source_uri=REPOSITORY))


def test_what_is_no_provenance_tells_no_source_and_no_builder() -> None:
    value = statement("https://spdx.dev/Document", {})
    assert found(value, Requirements(source_uri=REPOSITORY)) == [Code.PREDICATE_TYPE]
    assert found(value, Requirements(builder_id=GENERATOR)) == [Code.PREDICATE_TYPE]
    for kind in (V1, V0_2):
        assert set(found(statement(kind, {}), Requirements(builder_id=GENERATOR))) == {Code.STATEMENT_MALFORMED}


def test_mvms_own_provenance(tmp_path: Any) -> None:
    world = worlds.new_world(tmp_path)
    made = predicate.provenance_statement(world.provenance(), world.image.artifacts)
    claim = in_toto.parse(made.to_bytes())
    assert foreign_builds.builder_id(claim) == "urn:mvmnix:builder:microvm:1"
    assert foreign_builds.origin(claim) == BuildSource("https://host/repository", None, worlds.COMMIT)
    for artifact in world.image.artifacts:
        assert found(made.to_bytes(), Requirements(source_digest=worlds.COMMIT), artifact.digest) == []
    strange = json.loads(made.to_bytes())
    strange["predicate"]["buildDefinition"]["externalParameters"]["more"] = 1
    assert Code.EXTERNAL_PARAMETERS in found(strange, Requirements(source_digest=worlds.COMMIT))


@pytest.mark.parametrize(
    ("root", "matches", "why"),
    [
        (
            RootTree(f"git+file:app?rev={worlds.COMMIT}", OTHER, worlds.COMMIT),
            f"--source-uri file:app --source-digest {worlds.COMMIT}",
            "knows of no address and no tag",
        ),
        (RootTree("path:app", OTHER, None), "--source-uri path:app", "knows of no address, commit or tag"),
    ],
)
def test_a_refusal_of_mvms_own_build_says_what_would_match(tmp_path: Any, root: Any, matches: str, why: str) -> None:
    world = worlds.new_world(tmp_path)
    made = predicate.provenance_statement(replace(world.provenance(), root=root), world.image.artifacts).to_bytes()
    kernel = world.image.kernel.digest
    for wanted in (Requirements(source_uri="git.example/org/app"), Requirements(source_tag="v1")):
        (reason,) = unmet(made, Blob(kernel), wanted, PLACE)
        assert f"would match {matches}; " in reason.hint
        assert why in reason.hint
    words = matches.split()
    options: dict[str, Any]
    options = {name.removeprefix("--").replace("-", "_"): it for name, it in zip(words[::2], words[1::2], strict=True)}
    assert unmet(made, Blob(kernel), Requirements(**options), PLACE) == ()
    git = Requirements(source_uri=root.uri.partition("?")[0])
    assert unmet(made, Blob(kernel), git, PLACE) == (), "as provenance writes it"


def test_what_would_match_is_quoted_for_a_shell() -> None:
    value = statement(V1, workflow(ref="refs/tags/$(id)"))
    (reason,) = unmet(to_bytes(value), Blob(DIGEST), Requirements(source_tag="v1"), PLACE)
    assert "--source-tag '$(id)'" in reason.hint


def test_names_of_types() -> None:
    assert in_toto.predicate_type("slsaprovenance") == V0_2
    assert in_toto.predicate_type("urn:x:y") == "urn:x:y"
    for text in ("provenance", "", "a b:c", "https://x\n", "https:"):
        with pytest.raises(ValueError, match="slsaprovenance1"):
            in_toto.predicate_type(text)


def test_a_refusal_keeps_its_place() -> None:
    with pytest.raises(RefusedError) as caught:
        in_toto.parse(b"{}")
    (first, *_) = PLACE.refused(caught.value)
    assert (first.what, "statement 2 of 3" in first.why, "(signer the release key)" in first.why) == (
        "app.img",
        True,
        True,
    )


@pytest.mark.parametrize(
    ("wanted", "source", "content"),
    [
        ({}, False, False),
        ({"predicate_type": V1}, False, True),
        ({"builder_id": GENERATOR}, False, True),
        ({"source_uri": REPOSITORY}, True, True),
        ({"source_tag": TAG}, True, True),
        ({"source_digest": COMMIT}, True, True),
        ({"source_level": 0}, False, True),
        ({"package": PackageUrl.parse("pkg:npm/app")}, False, True),
    ],
)
def test_what_only_a_statement_can_say(wanted: dict[str, Any], source: bool, content: bool) -> None:
    """A bare signature is refused by `about_content`, so each requirement has to count for it."""
    it = Requirements(**wanted)
    assert (it.about_source, it.about_content) == (source, content)


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ({"builder_id": GENERATOR}, True),
        ({"source_uri": REPOSITORY}, True),
        ({"predicate_type": V1}, False),
        ({}, False),
    ],
)
def test_when_the_certificate_has_to_agree(
    wanted: dict[str, Any], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = PLACE.reason(Code.SOURCE_MISMATCH, "it differs", "look")
    monkeypatch.setattr(requirements, "certified_reasons", lambda *_: iter((reason,)))
    claim = in_toto.parse(to_bytes(statement(V1, workflow())))
    assert list(requirements.as_certified(claim, Requirements(**wanted), PLACE)) == [reason] * asked


@pytest.mark.parametrize(
    ("number", "good"), [("1.5", True), ("1." + "0" * 62, True), ("1." + "0" * 63, False), ("1e999", False)]
)
def test_numbers_with_a_fraction(number: str, *, good: bool) -> None:
    """Other tools' claims may have some, in up to 64 characters, and none that is infinite."""
    text = to_bytes(statement("urn:x", {"number": 7})).replace(b": 7", b": " + number.encode())
    assert found(text, Requirements()) == ([] if good else [Code.STATEMENT_MALFORMED])
