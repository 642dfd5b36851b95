"""Writes and reads what a SLSA predicate lists as resolved dependencies: one entry for each thing that came in; pure.

What an entry is, its annotations say: `committed` the root tree, `lockNode` a locked tree, `cacheKey` a path from a
binary cache, `partsBundle` a path that was kept; one without any of them is a file that was fetched by its hash.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mvmnix import strict
from mvmnix.model import Digest, HashMode, Source, StorePath
from mvmnix.provenance.slsa.provenance import CACHE_KEY, Cached, KeptPath, LockedInput, Provenance, RootTree

NAR_MEDIA_TYPE: Final = "application/x-nix-nar"
STORE_SCHEME: Final = "nix-store:"
#: How nodes of a lock file may be called here.
NODE: Final = r"[^\x00-\x1f\x7f]{1,255}"

_ROOT: Final = "root"
_BUNDLE: Final = r"sha256:[0-9a-f]{64}"
_COMMIT: Final = r"[!-~]{1,255}"

type Dependency = RootTree | LockedInput | Source | Cached | KeptPath


def values(it: Provenance) -> Iterable[Mapping[str, object]]:
    """All entries, ready to be written as JSON, the root tree first."""
    yield _root_value(it.root)
    yield from (_source_value(node.source, node.node) for node in it.nodes.inputs)
    yield from (_source_value(source, None) for source in it.sources)
    yield from (_path_value(each.path, each.uri, each.nar, "cacheKey", each.key) for each in it.cached)
    yield from (
        _path_value(each.path, f"{STORE_SCHEME}{each.path}", each.nar, "partsBundle", str(each.bundle))
        for each in it.kept
    )


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


def parse(record: strict.Record) -> Dependency:
    """Read one entry. Raises ValueError."""
    name, uri = record.text("name", r"[0-9a-zA-Z+._?=-]{1,211}"), record.text("uri", r"[!-~]{1,4096}")
    digest, commit = record.child("digest", _digests)
    if not record.has("mediaType"):
        return _without_commit(Source(uri, name, digest), commit)
    record.text("mediaType", NAR_MEDIA_TYPE.replace(".", r"\."))
    found = record.child("annotations", lambda notes: _annotated(notes, name, uri, digest, commit))
    return found if isinstance(found, RootTree) else _without_commit(found, commit)


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
