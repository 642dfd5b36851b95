"""Writes a Provenance as the SLSA v1 predicate of a statement, and reads it back, strictly; pure.

Each thing that came in is one of its resolved dependencies. What an entry is, its annotations say: `committed` the root
tree, `lockNode` a locked tree, `cacheKey` a path from a binary cache, `partsBundle` a path that was kept; one without
any of them is a file that was fetched by its hash.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.model import Artifact, HashMode, Source, StorePath
from mvmnix.provenance.bundle.statement import Statement, Subject, distinct, parse_subject, subject_value
from mvmnix.provenance.slsa.build_types import BUILD_TYPE, PREDICATE_TYPE
from mvmnix.provenance.slsa.provenance import (
    CACHE_KEY,
    BuilderLimits,
    Cached,
    KeptPath,
    LockAccount,
    LockedInput,
    Provenance,
    RootTree,
    UntouchedNode,
    Variation,
    Versions,
    subjects_of,
)

SBOM_NAME: Final = "sbom.cdx.json"
SBOM_MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"
NAR_MEDIA_TYPE: Final = "application/x-nix-nar"
STORE_SCHEME: Final = "nix-store:"
#: How nodes of a lock file may be called here.
NODE: Final = r"[^\x00-\x1f\x7f]{1,255}"

_ROOT: Final = "root"
_BUNDLE: Final = r"sha256:[0-9a-f]{64}"
_COMMIT: Final = r"[!-~]{1,255}"

_WHERE: Final = "provenance"
_EXTERNAL: Final = f"{_WHERE}.buildDefinition.externalParameters"
_DEPENDENCIES: Final = f"{_WHERE}.buildDefinition.resolvedDependencies"
_WORD: Final = r"[!-~]{1,255}"
_ATTRIBUTE: Final = r"[A-Za-z_][A-Za-z0-9_'.-]{0,254}"
_DERIVATION: Final = "derivation"
_DIRECTORY: Final = r"[^\x00-\x1f\x7f]{0,1024}"

type Dependency = RootTree | LockedInput | Source | Cached | KeptPath


def provenance_statement(provenance: Provenance, artifacts: Iterable[Artifact]) -> Statement:
    """The statement that these files came to be in this way."""
    return Statement(subjects_of(artifacts), PREDICATE_TYPE, value(provenance, BUILD_TYPE))


def read_provenance(statement: Statement, build_type: str = BUILD_TYPE) -> Provenance:
    """Read a provenance. Raises RefusedError: BUILD_TYPE, EXTERNAL_PARAMETERS, STATEMENT_MALFORMED, all at once."""
    try:
        return strict.read(statement.predicate, _WHERE, lambda record: _parse(record, build_type))
    except strict.MalformedError as error:
        hint = "build the image again: `mvm build --again FLAKE`; see docs/reference/build-type.md"
        raise RefusedError(*(Reason(_code(text), "provenance", text, hint) for text in error.problems)) from error


def value(it: Provenance, build_type: str) -> Mapping[str, object]:
    """The predicate, ready to be written as JSON."""
    lock: object = {"inputs": "none"} if it.lock is None else {"digest": {"sha256": it.lock.hex}}
    definition = {
        "buildType": build_type,
        "externalParameters": {
            "flake": {"uri": it.root.uri, "dir": it.directory, "attribute": it.attribute},
            "lock": lock,
        },
        "internalParameters": _internal_value(it),
        "resolvedDependencies": list(dependency_values(it)),
    }
    return {"buildDefinition": definition, "runDetails": _run_value(it)}


def dependency_values(it: Provenance) -> Iterable[Mapping[str, object]]:
    """All resolved dependencies, ready to be written as JSON, the root tree first."""
    yield _root_value(it.root)
    yield from (_source_value(node.source, node.node) for node in it.nodes.inputs)
    yield from (_source_value(source, None) for source in it.sources)
    yield from (_path_value(each.path, each.uri, each.nar, "cacheKey", each.key) for each in it.cached)
    yield from (
        _path_value(each.path, f"{STORE_SCHEME}{each.path}", each.nar, "partsBundle", str(each.bundle))
        for each in it.kept
    )


def parse_dependency(record: strict.Record) -> Dependency:
    """Read one resolved dependency. Raises ValueError."""
    name, uri = record.text("name", r"[0-9a-zA-Z+._?=-]{1,211}"), record.text("uri", r"[!-~]{1,4096}")
    digest, commit = record.child("digest", _digests)
    if not record.has("mediaType"):
        return _without_commit(Source(uri, name, digest), commit)
    record.text("mediaType", NAR_MEDIA_TYPE.replace(".", r"\."))
    found = record.child("annotations", lambda notes: _annotated(notes, name, uri, digest, commit))
    return found if isinstance(found, RootTree) else _without_commit(found, commit)


def _code(problem: str) -> ReasonCode:
    if problem.startswith(f"{_WHERE}.buildDefinition.buildType"):
        return ReasonCode.BUILD_TYPE
    if problem.startswith(f"{_DEPENDENCIES}:"):
        return ReasonCode.DEPENDENCY_MISMATCH
    return ReasonCode.EXTERNAL_PARAMETERS if problem.startswith(_EXTERNAL) else ReasonCode.STATEMENT_MALFORMED


def _internal_value(it: Provenance) -> Mapping[str, object]:
    internal: dict[str, object] = {
        "lockNodes": {
            "untouched": [{"name": node.node, "narHash": node.nar.sri} for node in it.nodes.untouched],
            "relative": list(it.nodes.relative),
        },
    }
    if it.from_derivation:
        internal["importFromDerivation"] = True
    if it.limits is not None:
        internal["limits"] = {
            "vcpus": it.limits.vcpus,
            "memoryMiB": it.limits.memory_mib,
            "scratchMiB": it.limits.scratch_mib,
            "seconds": it.limits.seconds,
        }
    if it.variation is not None:
        internal["variation"] = it.variation.shown()
    return internal


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
    byproducts: list[Mapping[str, object]] = []
    if it.derivation is not None:
        byproducts.append({"name": _DERIVATION, "uri": f"{STORE_SCHEME}{it.derivation}"})
    if it.sbom is not None:
        byproducts.append({"name": SBOM_NAME, "mediaType": SBOM_MEDIA_TYPE, "digest": {"sha256": it.sbom.hex}})
    return run | ({"byproducts": byproducts} if byproducts else {})


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


def _path_value(path: StorePath, uri: str, nar: Digest, voucher: str, by: str) -> Mapping[str, object]:
    return {
        "name": path.name,
        "uri": uri,
        "digest": {"sha256": nar.hex},
        "mediaType": NAR_MEDIA_TYPE,
        "annotations": {"narHash": nar.sri, "storePath": str(path), voucher: by},
    }


@dataclass(frozen=True, slots=True)
class _Internal:
    untouched: tuple[UntouchedNode, ...]
    relative: tuple[str, ...]
    from_derivation: bool
    limits: BuilderLimits | None
    variation: Variation | None


def _parse(record: strict.Record, build_type: str) -> Provenance:
    definition = record.child("buildDefinition", lambda it: _definition(it, build_type))
    return record.child("runDetails", lambda run: _run(run, definition))


def _definition(record: strict.Record, build_type: str) -> partial[Provenance]:
    """A provenance but for what `_run` reads."""
    record.text("buildType", build_type)  # of another one, the parameters would mean something else
    (uri, directory, attribute), lock = record.child("externalParameters", _external)
    internal = record.child("internalParameters", _internal)
    trees = record.each("resolvedDependencies", parse_dependency)
    if len(trees) != len(record.array("resolvedDependencies")):
        raise ValueError("a dependency could not be read")  # which one was said already
    match trees:
        case (RootTree() as root, *others) if not any(isinstance(tree, RootTree) for tree in others):
            pass
        case _:
            raise strict.MalformedError(f"{_DEPENDENCIES}: the root tree is not named exactly once, as the first")
    if root.uri != uri:
        raise strict.MalformedError(f"{_EXTERNAL}: the flake's URI is not that of the root tree")
    inputs = tuple(tree for tree in trees if isinstance(tree, LockedInput))
    return partial(
        Provenance,
        root=root,
        directory=directory,
        attribute=attribute,
        lock=lock,
        nodes=LockAccount(inputs, internal.untouched, internal.relative),
        sources=tuple(tree for tree in trees if isinstance(tree, Source)),
        limits=internal.limits,
        cached=tuple(tree for tree in trees if isinstance(tree, Cached)),
        kept=tuple(tree for tree in trees if isinstance(tree, KeptPath)),
        from_derivation=internal.from_derivation,
        variation=internal.variation,
    )


def _external(record: strict.Record) -> tuple[tuple[str, str, str], Digest | None]:
    return record.child("flake", _flake), record.child("lock", _lock)


def _flake(record: strict.Record) -> tuple[str, str, str]:
    return record.text("uri", r"[!-~]{1,4096}"), record.text("dir", _DIRECTORY), record.text("attribute", _ATTRIBUTE)


def _lock(record: strict.Record) -> Digest | None:
    if record.has("inputs"):
        record.text("inputs", "none")
        return None
    return record.child("digest", lambda digest: digest.digest())


def _internal(record: strict.Record) -> _Internal:
    untouched, relative = record.child(
        "lockNodes", lambda nodes: (nodes.each("untouched", _untouched), nodes.texts("relative", NODE))
    )
    return _Internal(
        untouched,
        relative,
        record.flag("importFromDerivation") if record.has("importFromDerivation") else False,
        record.child("limits", _limits) if record.has("limits") else None,
        record.child("variation", _variation) if record.has("variation") else None,
    )


def _variation(record: strict.Record) -> Variation:
    return Variation(
        record.text("hostname"),
        record.integer("clockOffsetSeconds", -strict.MAX_INTEGER, strict.MAX_INTEGER),
        record.text("directoryOrder"),
    )


def _untouched(record: strict.Record) -> UntouchedNode:
    return UntouchedNode(record.text("name", NODE), record.parsed("narHash", Digest.from_sri, Digest("0" * 64)))


def _limits(record: strict.Record) -> BuilderLimits:
    return BuilderLimits(
        record.integer("vcpus", 1, 64),
        record.integer("memoryMiB", 1, 2**20),
        record.integer("scratchMiB", 0, 2**20),
        record.integer("seconds", 1, 2**31),
    )


def _run(record: strict.Record, definition: partial[Provenance]) -> Provenance:
    builder_id, versions, image = record.child("builder", _builder)
    invocation, started, finished = record.child(
        "metadata", lambda meta: (meta.text("invocationId", _WORD), meta.time("startedOn"), meta.time("finishedOn"))
    )
    byproducts = record.each("byproducts", _byproduct, 2) if record.has("byproducts") else ()
    derivations = [it for it in byproducts if isinstance(it, StorePath)]
    boms = [it for it in byproducts if isinstance(it, Digest)]
    if len(derivations) > 1 or len(boms) > 1:
        raise ValueError("a byproduct is listed twice")
    return definition(
        builder_id=builder_id,
        builder_image=image,
        versions=versions,
        invocation=invocation,
        started=started,
        finished=finished,
        derivation=next(iter(derivations), None),
        sbom=next(iter(boms), None),
    )


def _builder(record: strict.Record) -> tuple[str, Versions, tuple[Subject, ...]]:
    versions = record.child("version", lambda v: Versions(v.text("mvmnix", _WORD), v.text("nix", _WORD)))
    image = distinct(record.each("builderDependencies", parse_subject, 16))
    return record.text("id", _WORD), versions, image


def _byproduct(record: strict.Record) -> StorePath | Digest | None:
    if record.text("name", rf"{_DERIVATION}|{re.escape(SBOM_NAME)}") == SBOM_NAME:
        record.text("mediaType", re.escape(SBOM_MEDIA_TYPE))
        return record.child("digest", lambda digest: digest.digest())
    return record.parsed("uri", _store_path, None)


def _store_path(uri: str) -> StorePath | None:
    if not uri.startswith(STORE_SCHEME):
        raise ValueError(f"not a {STORE_SCHEME} URI")
    return StorePath.parse(uri.removeprefix(STORE_SCHEME))


def _without_commit[D: Dependency](found: D, commit: str | None) -> D:
    if commit is not None:
        raise ValueError("only the root tree has a commit")
    return found


def _digests(record: strict.Record) -> tuple[Digest, str | None]:
    return record.digest(), record.text("gitCommit", _COMMIT) if record.has("gitCommit") else None


def _annotated(record: strict.Record, name: str, uri: str, digest: Digest, commit: str | None) -> Dependency:
    """What the annotations make of an archive; those that another kind has are unknown to this one."""
    if record.parsed("narHash", Digest.from_sri, Digest("0" * 64)) != digest:
        raise ValueError("its narHash is not its digest")
    if record.has("committed"):
        if name != _ROOT or record.flag("committed") is not (commit is not None):
            raise ValueError("it is neither a root tree nor another source")
        return RootTree(uri, digest, commit)
    if record.has("storePath"):
        return _path(record, name, uri, digest)
    source = Source(uri, name, digest, HashMode.NAR)
    return LockedInput(record.text("lockNode", NODE), source) if record.has("lockNode") else source


def _path(record: strict.Record, name: str, uri: str, digest: Digest) -> Cached | KeptPath:
    path = StorePath.parse(record.text("storePath"))
    if path.name != name:
        raise ValueError("its name is not that of its store path")
    if record.has("cacheKey"):
        return Cached(path, uri, digest, record.text("cacheKey", CACHE_KEY))
    if uri != f"{STORE_SCHEME}{path}":
        raise ValueError("its URI is not its store path")
    return KeptPath(path, digest, Digest(record.text("partsBundle", _BUNDLE).removeprefix("sha256:")))
