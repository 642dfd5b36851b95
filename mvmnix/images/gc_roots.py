"""Says which kept files are needed, and which are surplus: builds, plans and machines count; pure.

A file is kept as long as one build of the index, or one holder of a need, names it. A holder that can't say what it
needs, needs everything: a question without an answer is no permission to delete.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from mvmnix.digest import Digest
from mvmnix.images.store import IndexEntry, StoreDirectory
from mvmnix.model import Image


@dataclass(frozen=True, slots=True, order=True)
class StoredFile:
    """A file of the library: the directory that it lies in, and its name there."""

    room: StoreDirectory
    digest: Digest


@dataclass(frozen=True, slots=True)
class Need:
    """A holder, `who`, needs an image: the digests of its manifest and of its bundle; None where they aren't known."""

    who: str
    image: tuple[Digest, Digest] | None


@dataclass(frozen=True, slots=True)
class Shelved:
    """A kept build: the name of its index entry ("" when it has none any more), what that says, and all its files."""

    name: str
    entry: IndexEntry
    files: frozenset[StoredFile]


def files_of(entry: IndexEntry, image: Image) -> frozenset[StoredFile]:
    """The files of a build; `image` is what its manifest says."""
    files = {StoredFile(StoreDirectory.IMAGES, artifact.digest) for artifact in image.artifacts}
    return frozenset(files | {StoredFile(StoreDirectory.IMAGES, entry.manifest)} | evidence_of(entry))


def evidence_of(entry: IndexEntry) -> frozenset[StoredFile]:
    """The files of a build beside the image itself."""
    files = {StoredFile(StoreDirectory.BUNDLES, digest) for digest in (entry.bundle, *entry.parts)}
    if entry.lock is not None:
        files.add(StoredFile(StoreDirectory.LOCKS, entry.lock))
    if entry.sbom is not None:
        files.add(StoredFile(StoreDirectory.SBOMS, entry.sbom))
    return frozenset(files)


def users_of(entry: IndexEntry, needs: Iterable[Need]) -> tuple[str, ...]:
    """Who needs this build, or may need it."""
    return tuple(need.who for need in needs if need.image in {None, (entry.manifest, entry.bundle)})


def outlived(entries: Collection[IndexEntry], needs: Iterable[Need]) -> tuple[IndexEntry, ...]:
    """What is needed of builds that lost their place in the index to others; their locks and the like are unknown."""
    wanted = {need.image for need in needs if need.image is not None}
    known = {(entry.manifest, entry.bundle) for entry in entries}
    return tuple(IndexEntry(manifest, bundle, None) for manifest, bundle in sorted(wanted - known))


def unused(
    builds: Iterable[Shelved],
    needs: Collection[Need],
    *,
    spared: Collection[str] = (),
    finished: dict[str, datetime] | None = None,
    before: datetime | None = None,
) -> tuple[Shelved, ...]:
    """Builds that no holder needs, but for those whose index entries are spared.

    With `before`, those alone that were finished before that moment; `finished` has the verified times, by entry. A
    build whose evidence doesn't verify has no age, and stays.
    """
    times = finished or {}
    return tuple(
        build
        for build in builds
        if build.name not in spared
        and not users_of(build.entry, needs)
        and (before is None or (build.name in times and times[build.name] < before))
    )


def surplus(present: Iterable[StoredFile], builds: Iterable[Shelved], needs: Iterable[Need]) -> tuple[StoredFile, ...]:
    """The files that lie there and belong to none of these builds; none as long as a holder can't say what it needs."""
    if any(need.image is None for need in needs):
        return ()
    kept = frozenset[StoredFile]().union(*(build.files for build in builds))
    return tuple(sorted(file for file in present if file not in kept))
