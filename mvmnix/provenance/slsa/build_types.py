"""The build types of SLSA provenance v1: where each tells its source, which parameters are understood; pure.

A build type decides what external parameters mean (slsa.dev, spec v1.0, "Provenance", buildType). A parameter that
could make the build take another source than the one that is named is not understood, nor is one that is unknown.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mvmnix.formats import strict

PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
#: mvm's own, which predicate.py reads.
BUILD_TYPE: Final = "urn:mvmnix:buildtype:flake-image:1"
_URI: Final = r"[!-~]{1,4096}"
#: Homes of the types; nothing here connects to them.
_GENERATOR: Final = "https://github.com/slsa-framework/slsa-github-generator"
_GITLAB: Final = "https://gitlab.com/gitlab-org/gitlab-runner"


@dataclass(frozen=True, slots=True)
class Stated:
    """What external parameters say of the source: `uri` as it has to stand among the dependencies, its git reference.

    `uri` is None where the first dependency is the source; `repository` and `ref` are None where the URI has them.
    `commit` is the one that the parameters name, if they do; `unknown` are parameters that are not understood.
    """

    uri: str | None
    repository: str | None = None
    ref: str | None = None
    commit: str | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildType:
    """A row: which types are meant, how their external parameters are read.

    `builder_signs`: what the statement calls its builder is the workflow that the certificate names.
    """

    pattern: str
    read: Callable[[strict.Record], Stated]
    builder_signs: bool = False


def of(kind: str) -> BuildType | None:
    """The row of a build type; None for one that is not known."""
    return next((row for row in TABLE if re.fullmatch(row.pattern, kind)), None)


def _workflow(record: strict.Record) -> Stated:
    """What `inputs` and `vars` hold means what the workflow makes of it, such as another reference to check out."""
    open_ended = [name for name in ("inputs", "vars") if record.has(name) and record.value(name) not in ({}, None)]
    others = set(record.names()) - {"workflow", "inputs", "vars"}

    def workflow(it: strict.Record) -> tuple[str, str]:
        others.update(f"workflow.{name}" for name in set(it.names()) - {"repository", "ref", "path"})
        found = it.text("repository", _URI), it.text("ref", _URI)
        it.leave_rest()
        return found

    repository, ref = record.child("workflow", workflow)
    record.leave_rest()
    return Stated(f"git+{repository}@{ref}", repository, ref, None, tuple(sorted({*open_ended, *others})))


def _delegated(record: strict.Record) -> Stated:
    """The delegating workflow checks out the source itself, and puts it first; inputs are its builder's."""
    unknown = set(record.names()) - {"inputs", "vars", "workflow"}
    record.leave_rest()
    return Stated(None, unknown=tuple(sorted(unknown)))


def _container(record: strict.Record) -> Stated:
    """The builder checks out `source`, and runs a command in an image that it names by digest."""
    unknown = set(record.names()) - {"source", "builderImage", "configPath", "buildConfig"}
    uri, commit = record.child("source", _source)
    record.leave_rest()
    return Stated(uri, commit=commit, unknown=tuple(sorted(unknown)))


def _source(record: strict.Record) -> tuple[str, str | None]:
    found = record.text("uri", _URI), record.child("digest", commit) if record.has("digest") else None
    record.leave_rest()
    return found


def _gitlab(record: strict.Record) -> Stated:
    """The runner checks out the project at the job's commit; variables are the job's."""
    unknown = set(record.names()) - {"source", "entryPoint", "variables"}
    repository = record.text("source", _URI)
    record.leave_rest()
    return Stated(repository, repository, unknown=tuple(sorted(unknown)))


#: Git's object names by SHA-1 and SHA-256.
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def commit(record: strict.Record) -> str | None:
    """A git commit in a DigestSet. Raises ValueError for several, and for what is none.

    `sha1` is how SLSA v0.2 calls it; GitLab's runner writes 40 digits under `sha256`, which nothing else can be.
    """
    found = {record.text(name) for name in ("gitCommit", "sha1") if record.has(name)}
    if not found and record.has("sha256") and len(text := record.text("sha256")) == 40:
        found = {text}
    record.leave_rest()
    if len(found) > 1 or any(not _COMMIT.fullmatch(text) for text in found):
        raise ValueError(f"not a commit: {', '.join(sorted(found))[:160]!r}")
    return next(iter(found), None)


#: GitHub's attestations of what a workflow built, and the type that they come from, which npm writes.
WORKFLOW_TYPES: Final = (
    "https://actions.github.io/buildtypes/workflow/v1",
    "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
)
TABLE: Final = (
    # of reusable workflows too; npm's builder is the runner, which signs nothing
    BuildType(re.escape(WORKFLOW_TYPES[0]), _workflow, builder_signs=True),
    BuildType(re.escape(WORKFLOW_TYPES[1]), _workflow),
    # the generators' delegating workflows, which sign for the builder that called them: Maven, Gradle, Node.js, others
    BuildType(rf"{re.escape(_GENERATOR)}/delegator(-lowperms)?-generic@v0", _delegated),
    BuildType(re.escape("https://slsa.dev/container-based-build/v0.1?draft"), _container, builder_signs=True),
    BuildType(rf"{re.escape(_GITLAB)}/-/blob/[^/@]{{1,64}}/PROVENANCE\.md", _gitlab),
)
#: Types of SLSA provenance v0.2 by the same: where the configuration stands is said by that version for all of them.
GENERATORS_V0_2: Final = re.compile(
    rf"{re.escape(_GENERATOR)}(-go|/go|/generic|/container)?@v1|{re.escape(_GITLAB)}/-/blob/[^/@]{{1,64}}/PROVENANCE\.md"
)


def parameters_known(kind: str) -> bool:
    """Whether a v0.2 build of this type takes no source by its `parameters`: GitLab's are the job's variables."""
    return kind.startswith(f"{_GITLAB}/") and GENERATORS_V0_2.fullmatch(kind) is not None


def builder_signs_v0_2(kind: str) -> bool:
    """Whether the builder of a v0.2 build of this type is the workflow that the certificate names."""
    return kind.startswith(_GENERATOR) and GENERATORS_V0_2.fullmatch(kind) is not None
