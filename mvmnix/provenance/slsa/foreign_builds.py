"""Says where others' build provenance tells its builder and its source; what it does not understand it refuses; pure.

SLSA provenance v1 leaves the source to the build type, so only these are read: mvm's own (docs/reference/build-type.md)
and those of build_types.py. SLSA provenance v0.2 has a field for it in every build type: the configuration's source,
which has to be among the materials with the same digest, as the generators of that version write it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats import strict
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.slsa import build_types
from mvmnix.provenance.slsa.build_types import BUILD_TYPE, PREDICATE_TYPE, BuildType, Stated
from mvmnix.provenance.slsa.in_toto import TYPES, ForeignStatement

V0_2: Final = TYPES["slsaprovenance02"]

_WHAT: Final = "the provenance"
_HINT: Final = "ask for nothing about the source, or have the artifact built by a builder whose build type mvm reads"
_URI: Final = r"[!-~]{1,4096}"
#: External parameters that a reason lists.
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class BuildSource:
    """Where a build says that it came from: a repository, a git reference and a commit, as far as it says.

    `repository` has no `git+` before it and no reference behind it; `ref` is whole, `refs/tags/v1`.
    """

    repository: str
    ref: str | None
    commit: str | None

    @property
    def tag(self) -> str | None:
        """The tag, if the reference is one."""
        return None if self.ref is None or not self.ref.startswith("refs/tags/") else self.ref[len("refs/tags/") :]


def repository_of(text: str) -> str:
    """How a repository is compared: without `git+`, and with a scheme.

    >>> repository_of("git+https://git.example/o/r"), repository_of("git.example/o/r")
    ('https://git.example/o/r', 'https://git.example/o/r')
    """
    bare = text.removeprefix("git+")
    return bare if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", bare) else f"https://{bare}"


def is_provenance(it: ForeignStatement) -> bool:
    """Whether it is SLSA provenance of a version that is read."""
    return it.predicate_type in {PREDICATE_TYPE, V0_2}


def builder_id(it: ForeignStatement) -> str:
    """Who built, by the statement's word. Raises RefusedError PREDICATE_TYPE, STATEMENT_MALFORMED."""
    if it.predicate_type == V0_2:
        return _read(it, _builder)
    _only_v1(it)
    return _read(it, lambda record: _rest(record.child("runDetails", _builder), record))


def invocation(it: ForeignStatement) -> str | None:
    """What the builder calls this run of it (`invocationId`, in v0.2 `buildInvocationID`); None if it has no name."""
    here: object = it.predicate
    inner = (
        ("metadata", "buildInvocationID") if it.predicate_type == V0_2 else ("runDetails", "metadata", "invocationId")
    )
    for name in inner:
        here = here.get(name) if isinstance(here, dict) else None
    return here if isinstance(here, str) and here and is_provenance(it) else None


def builder_signs(it: ForeignStatement) -> bool:
    """Whether what the statement calls its builder is, by its build type, the workflow that a certificate names."""
    if it.predicate_type == V0_2:
        kind = it.predicate.get("buildType")
        return isinstance(kind, str) and build_types.builder_signs_v0_2(kind)
    definition = it.predicate.get("buildDefinition")
    kind = definition.get("buildType") if isinstance(definition, dict) else None
    row = build_types.of(kind) if isinstance(kind, str) else None
    return row is not None and row.builder_signs


def origin(it: ForeignStatement) -> BuildSource:
    """Where the source came from, by the statement's word.

    Raises RefusedError: PREDICATE_TYPE for what is no provenance, BUILD_TYPE for a build type that is not understood,
    EXTERNAL_PARAMETERS for parameters that could change what the others mean, DEPENDENCY_MISMATCH where the source is
    not among what came in, STATEMENT_MALFORMED.
    """
    if it.predicate_type == V0_2:
        return _of_v0_2(*_read(it, _v0_2))
    _only_v1(it)
    kind = _read(it, lambda record: _rest(record.child("buildDefinition", _build_type), record))
    if kind == BUILD_TYPE:
        return _own(it)
    if (row := build_types.of(kind)) is not None:
        return _of_table(row, it)
    raise refuse(ReasonCode.BUILD_TYPE, _WHAT, f"where build type {kind!r} tells its source is not known here", _HINT)


def _only_v1(it: ForeignStatement) -> None:
    if it.predicate_type != PREDICATE_TYPE:
        why = f"its predicate is {it.predicate_type!r}, which tells no builder and no source"
        raise refuse(ReasonCode.PREDICATE_TYPE, _WHAT, why, "hand in SLSA provenance, v1 or v0.2")


def _read[T](it: ForeignStatement, parse: Callable[[strict.Record], T]) -> T:
    try:
        return strict.read(it.predicate, "predicate", parse)
    except strict.MalformedError as error:
        raise error.refused(
            ReasonCode.STATEMENT_MALFORMED, _WHAT, "have the artifact built and signed again"
        ) from error


def _rest[T](found: T, record: strict.Record) -> T:
    record.leave_rest()
    return found


def _builder(record: strict.Record) -> str:
    return _rest(record.child("builder", lambda it: _rest(it.text("id", _URI), it)), record)


def _build_type(record: strict.Record) -> str:
    return _rest(record.text("buildType", _URI), record)


def _own(it: ForeignStatement) -> BuildSource:
    """What mvm wrote is read as strictly as at a launch."""
    from mvmnix.provenance.slsa import predicate  # noqa: PLC0415 - others' statements don't pay for it

    build = predicate.read_provenance(Statement((), it.predicate_type, it.predicate))
    where, _, query = build.root.uri.partition("?")
    ref = next((part[len("ref=") :] for part in query.split("&") if part.startswith("ref=")), None)
    return BuildSource(repository_of(where), ref, build.root.commit)


type _Dependency = tuple[str, str | None]


def _of_table(row: BuildType, it: ForeignStatement) -> BuildSource:
    def definition(record: strict.Record) -> tuple[Stated, tuple[_Dependency, ...]]:
        stated = record.child("externalParameters", row.read)
        return _rest((stated, record.each("resolvedDependencies", _dependency)), record)

    stated, dependencies = _read(it, lambda record: _rest(record.child("buildDefinition", definition), record))
    _only_known(stated.unknown)
    uri = stated.uri if stated.uri is not None else next((name for name, _ in dependencies), "")
    commit = _one_commit(dependencies, uri)
    if stated.commit not in {None, commit}:
        why = f"its source {uri} has commit {stated.commit}, and another among what it says came in"
        raise refuse(ReasonCode.DEPENDENCY_MISMATCH, _WHAT, why, _HINT)
    where, _, ref = uri.partition("@refs/")
    own_ref = stated.ref or (f"refs/{ref}" if ref else None)
    return BuildSource(repository_of(stated.repository or where), own_ref, commit)


def _only_known(unknown: tuple[str, ...]) -> None:
    if unknown:
        shown = f"{', '.join(unknown[:_SHOWN])}{' …' if len(unknown) > _SHOWN else ''}"
        why = f"what its external parameters {shown} mean is not known here"
        raise refuse(ReasonCode.EXTERNAL_PARAMETERS, _WHAT, why, _HINT)


def _v0_2(record: strict.Record) -> tuple[_Dependency, tuple[_Dependency, ...], tuple[str, ...]]:
    kind = record.text("buildType", _URI) if record.has("buildType") else ""
    source, unknown = record.child("invocation", _invocation)
    unknown = () if build_types.parameters_known(kind) else unknown
    return _rest((source, record.each("materials", _dependency) if record.has("materials") else (), unknown), record)


def _invocation(record: strict.Record) -> tuple[_Dependency, tuple[str, ...]]:
    """Its source, and the parameters beside it: "all external inputs that influenced the build" (SLSA v0.2)."""
    parameters = record.value("parameters") if record.has("parameters") else None
    named = sorted(parameters) if isinstance(parameters, dict) else ["parameters"] if parameters else []
    return _rest((record.child("configSource", _source), tuple(named)), record)


def _of_v0_2(source: _Dependency, materials: tuple[_Dependency, ...], unknown: tuple[str, ...]) -> BuildSource:
    _only_known(unknown)
    uri, commit = source
    if _one_commit(materials, uri) != commit:
        why = f"its source {uri} has commit {commit}, and another among the materials"
        raise refuse(ReasonCode.DEPENDENCY_MISMATCH, _WHAT, why, _HINT)
    where, _, ref = uri.partition("@refs/")
    return BuildSource(repository_of(where), f"refs/{ref}" if ref else None, commit)


def _one_commit(dependencies: tuple[_Dependency, ...], uri: str) -> str | None:
    found = {commit for name, commit in dependencies if name == uri}
    if len(found) != 1:
        why = f"{uri} is {'with different commits' if found else 'not'} among what it says came in"
        raise refuse(ReasonCode.DEPENDENCY_MISMATCH, _WHAT, why, _HINT)
    return next(iter(found))


def _source(record: strict.Record) -> _Dependency:
    """A dependency that has to have a name."""
    record.text("uri", _URI)
    return _dependency(record)


def _dependency(record: strict.Record) -> _Dependency:
    uri = record.text("uri", r"[^\x00]{0,4096}") if record.has("uri") else ""
    commit = record.child("digest", build_types.commit) if record.has("digest") else None
    return _rest((uri, commit), record)
