"""Writes a Provenance as the SLSA v1 predicate of a statement, and reads it back, strictly; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix import strict
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.model import Artifact, Digest, HashMode, Source, StorePath
from mvmnix.provenance.slsa import (
    BUILD_TYPE,
    PREDICATE_TYPE,
    Accounted,
    Input,
    Limits,
    Provenance,
    RootTree,
    Untouched,
    Versions,
    subjects_of,
)
from mvmnix.provenance.statement import Statement, Subject, distinct, parse_subject, subject_value

NAR_MEDIA_TYPE: Final = "application/x-nix-nar"

_WHERE: Final = "provenance"
_EXTERNAL: Final = f"{_WHERE}.buildDefinition.externalParameters"
_DEPENDENCIES: Final = f"{_WHERE}.buildDefinition.resolvedDependencies"
_STORE_SCHEME: Final = "nix-store:"
_WORD: Final = r"[!-~]{1,255}"
_NODE: Final = r"[^\x00-\x1f\x7f]{1,255}"
_ATTRIBUTE: Final = r"[A-Za-z_][A-Za-z0-9_'.-]{0,254}"
_DIRECTORY: Final = r"[^\x00-\x1f\x7f]{0,1024}"
_ROOT: Final = "root"


def to_statement(provenance: Provenance, artifacts: Iterable[Artifact]) -> Statement:
    """The statement that these files came to be in this way."""
    return Statement(subjects_of(artifacts), PREDICATE_TYPE, _predicate(provenance))


def from_statement(statement: Statement) -> Provenance:
    """Read a provenance. Raises RefusedError: BUILD_TYPE, EXTERNAL_PARAMETERS, STATEMENT_MALFORMED, all at once."""
    try:
        return strict.read(statement.predicate, _WHERE, _parse)
    except strict.MalformedError as error:
        hint = "build the image again: `mvm build --again FLAKE`; see docs/buildtype.md"
        raise RefusedError(*(Reason(_code(text), "provenance", text, hint) for text in error.problems)) from error


def _code(problem: str) -> ReasonCode:
    if problem.startswith(f"{_WHERE}.buildDefinition.buildType"):
        return ReasonCode.BUILD_TYPE
    if problem.startswith(f"{_DEPENDENCIES}:"):
        return ReasonCode.DEPENDENCY_MISMATCH
    return ReasonCode.EXTERNAL_PARAMETERS if problem.startswith(_EXTERNAL) else ReasonCode.STATEMENT_MALFORMED


def _predicate(it: Provenance) -> Mapping[str, object]:
    lock: object = {"inputs": "none"} if it.lock is None else {"digest": {"sha256": it.lock.hex}}
    internal: dict[str, object] = {
        "lockNodes": {
            "untouched": [{"name": node.node, "narHash": node.nar.sri} for node in it.nodes.untouched],
            "relative": list(it.nodes.relative),
        }
    }
    if it.limits is not None:
        internal["limits"] = {
            "vcpus": it.limits.vcpus,
            "memoryMiB": it.limits.memory_mib,
            "scratchMiB": it.limits.scratch_mib,
            "seconds": it.limits.seconds,
        }
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "flake": {"uri": it.root.uri, "dir": it.directory, "attribute": it.attribute},
            "lock": lock,
        },
        "internalParameters": internal,
        "resolvedDependencies": [
            _root_value(it.root),
            *(_source_value(node.source, node.node) for node in it.nodes.inputs),
            *(_source_value(source, None) for source in it.sources),
        ],
    }
    return {"buildDefinition": definition, "runDetails": _run_value(it)}


def _run_value(it: Provenance) -> Mapping[str, object]:
    run: dict[str, object] = {
        "builder": {
            "id": it.builder_id,
            "version": {"mvmnix": it.versions.mvm, "nix": it.versions.nix},
            "builderDependencies": [subject_value(subject) for subject in it.builder_image],
        },
        "metadata": {
            "invocationId": it.invocation,
            "startedOn": strict.show_time(it.started),
            "finishedOn": strict.show_time(it.finished),
        },
    }
    if it.derivation is not None:
        run["byproducts"] = [{"name": "derivation", "uri": f"{_STORE_SCHEME}{it.derivation}"}]
    return run


def _root_value(root: RootTree) -> Mapping[str, object]:
    digests = {"sha256": root.nar.hex} | ({} if root.commit is None else {"gitCommit": root.commit})
    return {
        "name": _ROOT,
        "uri": root.uri,
        "digest": digests,
        "mediaType": NAR_MEDIA_TYPE,
        "annotations": {"narHash": root.nar.sri, "committed": root.commit is not None},
    }


def _source_value(source: Source, node: str | None) -> Mapping[str, object]:
    value: dict[str, object] = {"name": source.name, "uri": source.uri, "digest": {"sha256": source.digest.hex}}
    if source.mode is HashMode.NAR:
        value["mediaType"] = NAR_MEDIA_TYPE
        value["annotations"] = {"narHash": source.digest.sri} | ({} if node is None else {"lockNode": node})
    return value


@dataclass(frozen=True, slots=True)
class _Definition:
    flake: tuple[str, str, str]
    lock: Digest | None
    untouched: tuple[Untouched, ...]
    relative: tuple[str, ...]
    limits: Limits | None
    root: RootTree
    inputs: tuple[Input, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    builder_id: str
    versions: Versions
    image: tuple[Subject, ...]


def _parse(record: strict.Record) -> Provenance:
    definition = record.child("buildDefinition", _definition)
    return record.child("runDetails", lambda run: _run(run, definition))


def _definition(record: strict.Record) -> _Definition:
    build_type(record)
    flake, lock = record.child("externalParameters", _external)
    untouched, relative, limits = record.child("internalParameters", _internal)
    trees = record.each("resolvedDependencies", _dependency)
    if len(trees) != len(record.array("resolvedDependencies")):
        raise ValueError("a dependency could not be read")  # which one was said already
    roots = [tree for tree in trees if isinstance(tree, RootTree)]
    if len(roots) != 1 or roots[0] is not trees[0]:
        raise strict.MalformedError(f"{_DEPENDENCIES}: the root tree is not named exactly once, as the first")
    if roots[0].uri != flake[0]:
        raise strict.MalformedError(f"{_EXTERNAL}: the flake's URI is not that of the root tree")
    inputs = tuple(tree for tree in trees if isinstance(tree, Input))
    sources = tuple(tree for tree in trees if isinstance(tree, Source))
    return _Definition(flake, lock, untouched, relative, limits, roots[0], inputs, sources)


def build_type(record: strict.Record) -> None:
    """The only way of building that is known here; for another one the parameters would mean something else."""
    record.text("buildType", BUILD_TYPE)


def _external(record: strict.Record) -> tuple[tuple[str, str, str], Digest | None]:
    return record.child("flake", _flake), record.child("lock", _lock)


def _flake(record: strict.Record) -> tuple[str, str, str]:
    return record.text("uri", r"[!-~]{1,4096}"), record.text("dir", _DIRECTORY), record.text("attribute", _ATTRIBUTE)


def _lock(record: strict.Record) -> Digest | None:
    if record.has("inputs"):
        record.text("inputs", "none")
        return None
    return record.child("digest", lambda digest: digest.digest())


def _internal(record: strict.Record) -> tuple[tuple[Untouched, ...], tuple[str, ...], Limits | None]:
    untouched, relative = record.child(
        "lockNodes", lambda nodes: (nodes.each("untouched", _untouched), nodes.texts("relative", _NODE))
    )
    return untouched, relative, record.child("limits", _limits) if record.has("limits") else None


def _untouched(record: strict.Record) -> Untouched:
    return Untouched(record.text("name", _NODE), _sri(record))


def _sri(record: strict.Record) -> Digest:
    return record.parsed("narHash", Digest.from_sri, Digest("0" * 64))


def _limits(record: strict.Record) -> Limits:
    return Limits(
        record.integer("vcpus", 1, 64),
        record.integer("memoryMiB", 1, 2**20),
        record.integer("scratchMiB", 0, 2**20),
        record.integer("seconds", 1, 2**31),
    )


def _dependency(record: strict.Record) -> RootTree | Input | Source:
    name, uri = record.text("name", r"[0-9a-zA-Z+._?=-]{1,211}"), record.text("uri", r"[!-~]{1,4096}")
    digest, commit = record.child("digest", _digests)
    annotations: tuple[Digest | None, str | None, bool | None] = (None, None, None)
    mode = HashMode.FLAT
    if record.has("mediaType"):
        record.text("mediaType", NAR_MEDIA_TYPE.replace(".", r"\."))
        annotations, mode = record.child("annotations", _annotations), HashMode.NAR
    nar, node, committed = annotations
    if nar not in {None, digest}:
        raise ValueError("its narHash is not its digest")
    source = Source(uri, name, digest, mode)
    if committed is not None:
        if name != _ROOT or node is not None or committed is not (commit is not None):
            raise ValueError("it is neither a root tree nor another source")
        return RootTree(uri, digest, commit)
    if commit is not None:
        raise ValueError("only the root tree has a commit")
    return source if node is None else Input(node, source)


def _digests(record: strict.Record) -> tuple[Digest, str | None]:
    return record.digest(), record.text("gitCommit", _WORD) if record.has("gitCommit") else None


def _annotations(record: strict.Record) -> tuple[Digest | None, str | None, bool | None]:
    return (
        _sri(record),
        record.text("lockNode", _NODE) if record.has("lockNode") else None,
        record.flag("committed") if record.has("committed") else None,
    )


def _run(record: strict.Record, it: _Definition) -> Provenance:
    builder = record.child("builder", _builder)
    invocation, started, finished = record.child(
        "metadata", lambda meta: (meta.text("invocationId", _WORD), meta.time("startedOn"), meta.time("finishedOn"))
    )
    derivations = record.each("byproducts", _derivation, 1) if record.has("byproducts") else ()
    return Provenance(
        it.root,
        it.flake[1],
        it.flake[2],
        it.lock,
        Accounted(it.inputs, it.untouched, it.relative),
        it.sources,
        builder.builder_id,
        builder.image,
        builder.versions,
        it.limits,
        invocation,
        started,
        finished,
        next(iter(derivations), None),
    )


def _builder(record: strict.Record) -> _Run:
    versions = record.child("version", lambda v: Versions(v.text("mvmnix", _WORD), v.text("nix", _WORD)))
    image = distinct(record.each("builderDependencies", parse_subject, 16))
    return _Run(record.text("id", _WORD), versions, image)


def _derivation(record: strict.Record) -> StorePath | None:
    record.text("name", "derivation")
    return record.parsed("uri", _store_path, None)


def _store_path(uri: str) -> StorePath | None:
    if not uri.startswith(_STORE_SCHEME):
        raise ValueError(f"not a {_STORE_SCHEME} URI")
    return StorePath.parse(uri.removeprefix(_STORE_SCHEME))
