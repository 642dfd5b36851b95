"""Builders whose provenance is read: where each tells its source, and that the certificate has to say the same."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats import strict
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.slsa import build_types, foreign_builds
from mvmnix.provenance.slsa.in_toto import ForeignStatement
from mvmnix.provenance.verify import requirements
from mvmnix.provenance.verify.artifact_verifier import HandedIn, VerificationCriteria
from mvmnix.provenance.verify.requirements import Requirements, StatementPosition
from tests.private_sigstore import Hooks, der
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
    Json,
    generator,
    statement,
    to_bytes,
    unmet,
    workflow,
)
from tests.unit.provenance.forgeries import ISSUER, KEY, NOW, OURS, SUBJECT, drop, identity, put

HOME = "https://github.com/slsa-framework/slsa-github-generator"
RUNNER = "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/v17.0.0/PROVENANCE.md"
PLACE = StatementPosition("app.img", 1, 1)
SOURCE = {"uri": f"git+{REPOSITORY}@{REF}", "digest": {"sha1": COMMIT}}
TRUST = Trust(
    (Signer("ci", identity(), frozenset(Role)), Signer("key", KEY.public, frozenset(Role), OURS.domain)),
    {OURS.domain: OURS.trusted_root},
)


def v1(kind: str, parameters: Json, *dependencies: Json) -> Json:
    return {
        "buildDefinition": {
            "buildType": kind,
            "externalParameters": parameters,
            "internalParameters": {"GITHUB_REF": REF},
            "resolvedDependencies": list(dependencies),
        },
        "runDetails": {"builder": {"id": GENERATOR}, "metadata": {"invocationId": f"{REPOSITORY}/runs/1"}},
    }


def delegated(kind: str = f"{HOME}/delegator-generic@v0") -> Json:
    parameters = {"inputs": {"directory": ".", "goals": "package"}, "vars": {}}
    return v1(kind, parameters, SOURCE, {"uri": "docker://maven", "digest": {"sha256": "0" * 64}})


def container() -> Json:
    image = {"uri": "docker://builder", "digest": {"sha256": "0" * 64}}
    parameters = {"source": SOURCE, "builderImage": image, "configPath": "build.toml", "buildConfig": {"Command": []}}
    return v1("https://slsa.dev/container-based-build/v0.1?draft", parameters, SOURCE, image)


def gitlab() -> Json:
    parameters = {"source": REPOSITORY, "entryPoint": "build", "variables": {"CI": "true", "CI_COMMIT_REF_NAME": TAG}}
    return v1(RUNNER, parameters, {"uri": REPOSITORY, "digest": {"sha256": COMMIT}})


def gitlab_0_2() -> Json:
    source = {"uri": REPOSITORY, "digest": {"sha256": COMMIT}}
    it = generator() | {"buildType": RUNNER, "materials": [source]}
    return it | {"invocation": {"configSource": source | {"entryPoint": "job"}, "parameters": {"CI": "true"}}}


def generated(name: str) -> Json:
    return generator() | {"buildType": f"{HOME}{name}"}


WITH_REF = Requirements(None, REPOSITORY, TAG, COMMIT, GENERATOR)
ABOUT_SOURCE = (Requirements(source_uri=REPOSITORY), Requirements(source_tag=TAG), Requirements(source_digest=COMMIT))
WITHOUT_REF = Requirements(None, REPOSITORY, None, COMMIT, GENERATOR)
BUILDS: dict[str, tuple[str, Json, Requirements]] = {
    "GitHub": (V1, workflow(), WITH_REF),
    "delegator": (V1, delegated(), WITH_REF),
    "delegator, low permissions": (V1, delegated(f"{HOME}/delegator-lowperms-generic@v0"), WITH_REF),
    "container-based": (V1, container(), WITH_REF),
    "GitLab": (V1, gitlab(), WITHOUT_REF),
    "GitLab, v0.2": (V0_2, gitlab_0_2(), WITHOUT_REF),
    "generic": (V0_2, generated("/generic@v1"), WITH_REF),
    "Go": (V0_2, generated("/go@v1"), WITH_REF),
    "container": (V0_2, generated("/container@v1"), WITH_REF),
}


def found(kind: str, predicate: Json, wanted: Requirements) -> list[Code]:
    return [reason.code for reason in unmet(to_bytes(statement(kind, predicate)), Blob(DIGEST), wanted, PLACE)]


@pytest.mark.parametrize("name", BUILDS)
def test_where_the_source_stands(name: str) -> None:
    kind, predicate, wanted = BUILDS[name]
    assert found(kind, predicate, wanted) == []
    for field, value, code in (
        ("source_uri", f"{REPOSITORY}2", Code.SOURCE_MISMATCH),
        ("source_digest", "6" * 40, Code.SOURCE_MISMATCH),
        ("source_tag", "v9", Code.SOURCE_MISMATCH),
        ("builder_id", f"{GENERATOR}x", Code.BUILDER_MISMATCH),
    ):
        changed: Json = {field: value}
        assert found(kind, predicate, replace(wanted, **changed)) == [code]


@pytest.mark.parametrize("name", ["GitLab", "GitLab, v0.2"])
def test_gitlab_names_no_reference(name: str) -> None:
    """Its variables may say one, and are the job's own."""
    kind, predicate, _ = BUILDS[name]
    assert found(kind, predicate, WITH_REF) == [Code.SOURCE_MISMATCH]


_DEFINITION = ("buildDefinition",)
_PARAMETERS = ("buildDefinition", "externalParameters")
_FIRST = ("buildDefinition", "resolvedDependencies", 0)


@pytest.mark.parametrize(
    ("predicate", "change", "code"),
    [
        (delegated(), put(1, *_PARAMETERS, "source"), Code.EXTERNAL_PARAMETERS),
        (delegated(), put([], *_DEFINITION, "resolvedDependencies"), Code.DEPENDENCY_MISMATCH),
        (delegated(), put(f"{HOME}/delegator-generic@v1", *_DEFINITION, "buildType"), Code.BUILD_TYPE),
        (delegated(), put(f"{HOME}/delegator-generic@v0x", *_DEFINITION, "buildType"), Code.BUILD_TYPE),
        (delegated(), put("git+https://evil.example/o/r@refs/tags/v1", *_FIRST, "uri"), Code.SOURCE_MISMATCH),
        (delegated(), put({"sha256": "0" * 40}, *_FIRST, "digest"), Code.SOURCE_MISMATCH),
        (delegated(), put({"sha1": "0" * 39}, *_FIRST, "digest"), Code.STATEMENT_MALFORMED),
        (delegated(), put({"sha1": "0" * 40, "gitCommit": "1" * 40}, *_FIRST, "digest"), Code.STATEMENT_MALFORMED),
        (container(), put(1, *_PARAMETERS, "more"), Code.EXTERNAL_PARAMETERS),
        (container(), drop(*_PARAMETERS, "source"), Code.STATEMENT_MALFORMED),
        (container(), put("6" * 40, *_PARAMETERS, "source", "digest", "sha1"), Code.DEPENDENCY_MISMATCH),
        (container(), put("git+https://evil.example/o/r", *_PARAMETERS, "source", "uri"), Code.DEPENDENCY_MISMATCH),
        (container(), put([], *_DEFINITION, "resolvedDependencies"), Code.DEPENDENCY_MISMATCH),
        (gitlab(), put(1, *_PARAMETERS, "more"), Code.EXTERNAL_PARAMETERS),
        (gitlab(), put("https://evil.example", *_PARAMETERS, "source"), Code.DEPENDENCY_MISMATCH),
        (gitlab(), put([], *_DEFINITION, "resolvedDependencies"), Code.DEPENDENCY_MISMATCH),
        (gitlab(), put(RUNNER.replace("v17.0.0", "a/b"), *_DEFINITION, "buildType"), Code.BUILD_TYPE),
        (gitlab(), put(f"{RUNNER}x", *_DEFINITION, "buildType"), Code.BUILD_TYPE),
    ],
)
def test_what_is_not_understood(predicate: Json, change: Callable[[Json], Json], code: Code) -> None:
    assert code in found(V1, change(predicate), Requirements(source_uri=REPOSITORY, source_digest=COMMIT))


def test_parameters_of_version_0_2_are_known_of_gitlab_alone() -> None:
    changed = put({"CI": "true"}, "invocation", "parameters")(generated("/generic@v1"))
    assert found(V0_2, changed, WITH_REF) == [Code.EXTERNAL_PARAMETERS]
    other = gitlab_0_2() | {"buildType": f"{RUNNER}x"}
    assert found(V0_2, other, WITHOUT_REF) == [Code.EXTERNAL_PARAMETERS]


@pytest.mark.parametrize("build_type", build_types.WORKFLOW_TYPES)
@pytest.mark.parametrize(
    "change",
    [
        put({"ref": "evil"}, *_PARAMETERS, "checkout"),
        put("refs/heads/evil", *_PARAMETERS, "workflow", "checkout"),
        put({"ref": "refs/heads/evil"}, *_PARAMETERS, "inputs"),
        put("ref=evil", *_PARAMETERS, "inputs"),
        put({"REF": "evil"}, *_PARAMETERS, "vars"),
    ],
)
def test_what_could_have_changed_the_source(change: Callable[[Json], Json], build_type: str) -> None:
    made = change(put(build_type, *_DEFINITION, "buildType")(workflow()))
    for wanted in ABOUT_SOURCE:
        assert found(V1, made, wanted) == [Code.EXTERNAL_PARAMETERS]
    assert found(V1, made, Requirements(builder_id=GENERATOR)) == []


@pytest.mark.parametrize("parameters", [{"ref": "evil"}, {"event_inputs": {"ref": "evil"}}, ["ref=evil"]])
def test_what_could_have_changed_the_source_of_version_0_2(parameters: object) -> None:
    made = put(parameters, "invocation", "parameters")(generator())
    for wanted in ABOUT_SOURCE:
        assert found(V0_2, made, wanted) == [Code.EXTERNAL_PARAMETERS]
    assert found(V0_2, made, Requirements(builder_id=GENERATOR)) == []


@pytest.mark.parametrize("name", ["inputs", "vars"])
def test_parameters_that_are_there_and_empty(name: str) -> None:
    assert found(V1, put({}, *_PARAMETERS, name)(workflow()), Requirements(source_uri=REPOSITORY)) == []


def test_each_row_is_used() -> None:
    kinds = [it["buildDefinition"]["buildType"] for kind, it, _ in BUILDS.values() if kind == V1]
    assert {build_types.of(kind) for kind in [*kinds, *build_types.WORKFLOW_TYPES]} == set(build_types.TABLE)


# What Fulcio's extensions say of the job

ARC = "1.3.6.1.4.1.57264.1"
CERTIFIED = {
    f"{ARC}.9": GENERATOR,
    f"{ARC}.12": REPOSITORY,
    f"{ARC}.13": COMMIT,
    f"{ARC}.14": REF,
    f"{ARC}.21": f"{REPOSITORY}/runs/1",
}


def judged(
    kind: str, predicate: Json, certified: dict[str, bytes], wanted: Requirements, key: Any = None
) -> list[Code]:
    hooks = Hooks(leaf=lambda it: replace(it, fields=dict(it.fields) | certified))
    data = OURS.attest(
        to_bytes(statement(kind, predicate)), at=NOW, subject=SUBJECT, issuer=ISSUER, hooks=hooks, key=key
    )
    try:
        handed_in = HandedIn([data], VerificationCriteria(TRUST, wanted))
        assert handed_in.judge("app.img", Blob(DIGEST, lambda: ARTIFACT)).counted
    except RefusedError as error:
        return list(error.codes)
    return []


def utf8(values: dict[str, str]) -> dict[str, bytes]:
    return {oid: der.utf8(text) for oid, text in values.items()}


def of_run(name: str) -> tuple[str, Json]:
    kind, predicate, _ = BUILDS[name]
    if kind == V0_2:
        return kind, predicate | {"metadata": {"buildInvocationID": "1-1"}}
    return kind, put(f"{REPOSITORY}/runs/1", "runDetails", "metadata", "invocationId")(predicate)


@pytest.mark.parametrize("name", BUILDS)
def test_statement_and_certificate_agree(name: str) -> None:
    kind, predicate = of_run(name)
    wanted = BUILDS[name][2]
    for certified in (utf8(CERTIFIED), {}):
        assert judged(kind, predicate, certified, wanted) == []


@pytest.mark.parametrize("oid", CERTIFIED)
@pytest.mark.parametrize("name", BUILDS)
def test_each_disagreement(name: str, oid: str) -> None:
    """What a statement says and its certificate contradicts is refused; no certificate names GitLab's runner."""
    kind, predicate = of_run(name)
    wanted = BUILDS[name][2]
    number = oid.rsplit(".", 1)[-1]
    # the delegating workflow signs for another, which is the builder
    silent = {"9": "GitLab" in name or "delegator" in name, "14": "GitLab" in name, "21": kind == V0_2}.get(
        number, False
    )
    codes = [] if silent else [Code.BUILDER_MISMATCH if number in {"9", "21"} else Code.SOURCE_MISMATCH]
    certified = utf8(CERTIFIED | {oid: "https://evil.example/x"})
    assert judged(kind, predicate, certified, wanted) == codes
    # asked for nothing of it, nothing is compared; and a key certifies nothing
    assert judged(kind, predicate, certified, Requirements()) == []
    assert judged(kind, predicate, certified, wanted, key=KEY) == []


@pytest.mark.parametrize(("oid", "good"), [("3", COMMIT), ("6", REF)])
def test_the_older_extensions(oid: str, good: str) -> None:
    """In raw text; the newer one counts where both stand there."""
    kind, predicate = of_run("GitHub")
    assert judged(kind, predicate, {f"{ARC}.{oid}": good.encode()}, WITH_REF) == []
    assert judged(kind, predicate, {f"{ARC}.{oid}": b"other"}, WITH_REF) == [Code.SOURCE_MISMATCH]
    assert judged(kind, predicate, utf8(CERTIFIED) | {f"{ARC}.{oid}": b"other"}, WITH_REF) == []


def test_an_extension_that_is_no_text() -> None:
    kind, predicate = of_run("GitHub")
    for raw in (b"raw", b"\x0c\x02\xc3\x28"):
        assert judged(kind, predicate, {f"{ARC}.12": raw}, WITH_REF) == [Code.IDENTITY_MALFORMED]
    assert judged(kind, predicate, {f"{ARC}.3": b"\xff"}, WITH_REF) == [Code.IDENTITY_MALFORMED]


def test_the_comparison_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, predicate = of_run("GitHub")
    certified = utf8(CERTIFIED | {f"{ARC}.13": "6" * 40})
    assert judged(kind, predicate, certified, WITH_REF) == [Code.SOURCE_MISMATCH]
    monkeypatch.setattr(requirements, "CHECKS", requirements.CHECKS[:-1])
    assert judged(kind, predicate, certified, WITH_REF) == []


def test_npm_s_builder_is_not_its_workflow() -> None:
    """Its builder is the runner of the job, which no certificate names."""
    predicate = put(build_types.WORKFLOW_TYPES[1], "buildDefinition", "buildType")(of_run("GitHub")[1])
    certified = utf8(CERTIFIED | {f"{ARC}.9": "https://evil.example/x"})
    assert judged(V1, predicate, certified, WITH_REF) == []


@pytest.mark.parametrize(
    ("name", "digest"), [("delegator", "sha1"), ("container-based", "sha1"), ("GitHub", "gitCommit")]
)
def test_what_else_a_source_is_said_to_be(name: str, digest: str) -> None:
    """Other digests of it, its name and more: what a resource descriptor may have (in-toto, ResourceDescriptor)."""
    kind, predicate, wanted = BUILDS[name]
    more = put({digest: COMMIT, "sha512": "0" * 128}, *_FIRST, "digest")(put("source", *_FIRST, "name")(predicate))
    if name == "container-based":
        more = put("source", *_PARAMETERS, "source", "name")(more)
        more = put({digest: COMMIT, "sha512": "0" * 128}, *_PARAMETERS, "source", "digest")(more)
    assert found(kind, more, wanted) == []


def test_parameters_that_are_not_understood_are_that_and_not_malformed() -> None:
    for predicate in (delegated(), container(), gitlab()):
        changed = put(1, *_PARAMETERS, "more")(predicate)
        assert found(V1, changed, Requirements(source_uri=REPOSITORY)) == [Code.EXTERNAL_PARAMETERS]
    nothings: tuple[Json | None, ...] = ({}, None)
    for nothing in nothings:
        changed = put(nothing, *_PARAMETERS, "inputs")(workflow())
        assert found(V1, changed, Requirements(source_uri=REPOSITORY)) == []
    for path in ((), ("workflow",)):
        changed = put(1, *_PARAMETERS, *path, "more")(workflow())
        assert found(V1, changed, Requirements(source_uri=REPOSITORY)) == [Code.EXTERNAL_PARAMETERS]


def test_a_builder_that_can_not_be_compared_is_refused() -> None:
    """Its build type says that the certificate names it, and the statement has no text for it."""
    kind, predicate = of_run("GitHub")
    broken = put({"id": 1}, "runDetails", "builder")(predicate)
    wanted = Requirements(source_uri=REPOSITORY)
    assert judged(kind, broken, utf8(CERTIFIED), wanted) == [Code.STATEMENT_MALFORMED]


ONE, OTHER = "1" * 40, "2" * 40


@pytest.mark.parametrize(
    ("digests", "commit"),
    [
        ({}, None),
        ({"gitCommit": ONE}, ONE),
        ({"sha1": ONE}, ONE),
        ({"gitCommit": ONE, "sha1": ONE}, ONE),
        ({"gitCommit": ONE, "sha256": OTHER}, ONE),
        ({"gitCommit": "1" * 64}, "1" * 64),
        ({"sha256": ONE}, ONE),
        ({"sha256": "1" * 39}, None),
        ({"sha256": "1" * 41}, None),
        ({"sha256": "1" * 64}, None),
        ({"sha512": ONE}, None),
    ],
)
def test_which_digest_is_a_commit(digests: Json, commit: str | None) -> None:
    assert strict.read(digests, "digest", build_types.commit) == commit


@pytest.mark.parametrize("digests", [{"gitCommit": ONE, "sha1": OTHER}, {"gitCommit": ONE[1:]}, {"sha1": "main"}])
def test_what_is_no_commit(digests: Json) -> None:
    with pytest.raises(strict.MalformedError, match="not a commit"):
        strict.read(digests, "digest", build_types.commit)


@pytest.mark.parametrize(
    ("kind", "builder_signs", "parameters_known"),
    [
        (f"{HOME}/generic@v1", True, False),
        (f"{HOME}/unknown@v1", False, False),
        (RUNNER, False, True),
        (f"{RUNNER}x", False, False),
        ("https://gitlab.com/other", False, False),
        ("urn:x", False, False),
    ],
)
def test_types_of_the_older_version(kind: str, *, builder_signs: bool, parameters_known: bool) -> None:
    assert build_types.builder_signs_v0_2(kind) is builder_signs
    assert build_types.parameters_known(kind) is parameters_known


@pytest.mark.parametrize(
    ("kind", "builder_signs"),
    [
        (build_types.WORKFLOW_TYPES[0], True),
        ("https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1", False),
        ("https://actions.github.io/buildtypes/workflow/v1", True),
        (f"{HOME}/delegator-generic@v0", False),
        ("https://slsa.dev/container-based-build/v0.1?draft", True),
        (RUNNER, False),
        ("urn:x", False),
        (7, False),
    ],
)
def test_whose_builder_signs(kind: object, *, builder_signs: bool) -> None:
    it = ForeignStatement((), V1, {"buildDefinition": {"buildType": kind}})
    assert foreign_builds.builder_signs(it) is builder_signs
    assert not foreign_builds.builder_signs(ForeignStatement((), V0_2, {"buildType": kind}))
    assert foreign_builds.builder_signs(ForeignStatement((), V0_2, {"buildType": f"{HOME}/go@v1"}))


@pytest.mark.parametrize(
    ("kind", "predicate", "run"),
    [
        (V1, {"runDetails": {"metadata": {"invocationId": "1"}}}, "1"),
        (V1, {"runDetails": {"metadata": {"invocationId": ""}}}, None),
        (V1, {"runDetails": {"metadata": {"invocationId": 1}}}, None),
        (V1, {"runDetails": {"metadata": []}}, None),
        (V1, {"metadata": {"buildInvocationID": "1"}}, None),
        (V0_2, {"metadata": {"buildInvocationID": "1"}}, "1"),
        (V0_2, {"runDetails": {"metadata": {"invocationId": "1"}}}, None),
        ("urn:x", {"runDetails": {"metadata": {"invocationId": "1"}}}, None),
    ],
)
def test_what_a_builder_calls_a_run(kind: str, predicate: Json, run: str | None) -> None:
    assert foreign_builds.invocation(ForeignStatement((), kind, predicate)) == run


@pytest.mark.parametrize("ref", [REF, "v1.2.3", "main"])
def test_a_repository_is_what_the_parameters_call_so(ref: str) -> None:
    found = foreign_builds.origin(ForeignStatement((), V1, workflow(ref=ref)))
    assert found == foreign_builds.BuildSource(REPOSITORY, ref, COMMIT)


@pytest.mark.parametrize(("count", "told"), [(1, "p0 mean"), (8, "p7 mean"), (9, "p7 … mean")])
def test_how_many_unknown_parameters_a_reason_names(count: int, told: str) -> None:
    made = generator()
    made["invocation"]["parameters"] = {f"p{number}": 1 for number in range(count)}
    with pytest.raises(RefusedError, match=told) as caught:
        foreign_builds.origin(ForeignStatement((), V0_2, made))
    assert caught.value.codes == (Code.EXTERNAL_PARAMETERS,)


@pytest.mark.parametrize("metadata", [{}, {"invocationId": "1-1"}])
def test_a_run_that_is_called_by_no_address_is_not_compared(metadata: Json) -> None:
    """What a certificate calls the run is an address (oid-info.md)."""
    made = workflow()
    made["runDetails"] = {"builder": made["runDetails"]["builder"], "metadata": metadata}
    hooks = Hooks(
        leaf=lambda it: replace(it, fields={**it.fields, f"{ARC}.21": der.utf8(f"{REPOSITORY}/actions/runs/1")})
    )
    data = OURS.attest(to_bytes(statement(V1, made)), at=NOW, subject=SUBJECT, issuer=ISSUER, hooks=hooks)
    place = replace(PLACE, certificate=envelope.parse_bundle(data).material.certificate)
    assert not list(requirements.certified_reasons(ForeignStatement((), V1, made), place))
    made["runDetails"]["metadata"] = {"invocationId": f"{REPOSITORY}/actions/runs/2"}
    (found,) = requirements.certified_reasons(ForeignStatement((), V1, made), place)
    assert (found.code, "the certified run " in found.why) == (Code.BUILDER_MISMATCH, True)
