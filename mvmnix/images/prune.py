"""The only remover of kept images: takes away what is not needed, once it has counted all needs.

1. All needs are asked for first, by the caller, who holds the lock that keeps builds and launches out.
2. Each build of the index is read; one that can't be read stops the removal, for what it needs isn't known.
3. Index entries go first, then files, so that an end in the middle leaves surplus and never an entry without files.
4. What died writers left goes too; what a living process is writing stays, whatever its age.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats import manifest
from mvmnix.formats.escaping import escape_line
from mvmnix.formats.strict import show_time
from mvmnix.images import gc_roots as rules
from mvmnix.images.gc_roots import Need, Shelved, StoredFile
from mvmnix.images.store import ImageStore, IndexEntry, StoreDirectory
from mvmnix.model import Image
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.verify import read_claim
from mvmnix.suggestion import did_you_mean
from mvmnix.system.store import Store

#: So many digits of a digest are enough, if they are of one alone.
SHORTEST = 6
#: How many images of one name a message lists.
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What was removed, or would be: builds by their manifests, files, leftovers of died writers, and bytes in all."""

    builds: tuple[Digest, ...]
    files: tuple[StoredFile, ...]
    leftovers: tuple[str, ...]
    size: int


class KeptImages:
    """The library, as it is tidied. A caller that removes holds the locks of `Context.clearing`.

    `policy` reads the trust policy, under which builds are vouched for where several have one name; without it, none
    is. `held` are files that other code keeps there, such as the statements of kept parts.
    """

    def __init__(
        self,
        library: ImageStore,
        policy: Callable[[], TrustPolicy] | None = None,
        *,
        held: Collection[StoredFile] = (),
    ) -> None:
        self._library, self._policy = library, policy
        self._held = frozenset(held)

    def find(self, text: str) -> tuple[tuple[str, IndexEntry], ...]:
        """The index entries of the image with this manifest digest, its beginning, or else with this name.

        A name is what the manifest says, whose digest is checked and whose provenance isn't. Raises UsageError when
        there is no such image, and when there are several: these are listed with their dates, as far as signers of
        the policy vouch for them, which is read only then. None of several is taken: any flake's author may choose the
        name of another image. So a name is looked for where all builds can be read: raises MvmnixError for a broken
        entry of the index, or a manifest that can't be read, whose name isn't known.
        """
        start = text.removeprefix("sha256:")
        known = tuple(self._library.index())
        digests = {it.manifest for _, it in known if len(start) >= SHORTEST and it.manifest.hex.startswith(start)}
        if not digests and text == start:
            known = tuple(self._library.whole_index())
            digests = {entry.manifest for _, entry in known if self._known_name(entry) == text != ""}
        if len(digests) != 1:
            which = f"{len(digests)} kept images have" if digests else "no kept image has"
            why = f"{which} the name {text!r}, or a manifest digest that begins with it ({SHORTEST} digits or more)"
            if digests:
                lines = self._candidates([entry for _, entry in known if entry.manifest in digests])
                hint = "name one by its digits; mvm image ls lists all"
                raise UsageError("\n  ".join((f"{why}, the youngest first:", *lines)), hint=hint)
            near = did_you_mean(text, (self._name(entry) for _, entry in known))
            raise UsageError(why, hint=f"{near}mvm image ls lists them")
        return tuple((name, entry) for name, entry in known if entry.manifest in digests)

    def _candidates(self, entries: Iterable[IndexEntry]) -> list[str]:
        """A line for each image of these builds, the youngest first, at most so many."""
        claims = dict[str, str]()
        for entry in entries:
            digits = entry.manifest.hex[:12]
            claims[digits] = max(claims.get(digits, ""), self._origin(entry))
        youngest = sorted(claims, key=lambda digits: (claims[digits], digits), reverse=True)
        return [f"{digits}  {claims[digits] or 'its provenance is refused'}" for digits in youngest[:_SHOWN]]

    def _origin(self, entry: IndexEntry) -> str:
        """When a build was finished, and of what, as its provenance says; empty where that is refused."""
        if self._policy is None:
            return ""
        try:
            claim = read_claim(self._library.bundle(entry.bundle), self._policy()).provenance
        except (MvmnixError, OSError):
            return ""
        where = f"?dir={claim.directory}" if claim.directory else ""
        return escape_line(f"{show_time(claim.finished)}  {claim.root.uri}{where}#{claim.attribute}")

    def names(self) -> frozenset[str]:
        """The names of kept images, by their manifests; of those that can be read."""
        return frozenset(filter(None, (self._name(entry) for entry in self._library.entries())))

    def _name(self, entry: IndexEntry) -> str:
        """Return the image's name in its manifest; "" where that can't be read."""
        try:
            return self._known_name(entry)
        except MvmnixError:
            return ""

    def _known_name(self, entry: IndexEntry) -> str:
        try:
            return self._image(entry.manifest).name
        except MvmnixError as error:
            raise _unreadable(entry, "what its name is", error) from error

    def prune(
        self,
        needs: Collection[Need],
        *,
        every: bool,
        spared: Collection[str] = (),
        finished: dict[str, datetime] | None = None,
        before: datetime | None = None,
        remove: bool = True,
    ) -> PruneResult:
        """Remove files that no build or holder needs; with `every`, builds too that no holder needs: see needs.unused.

        Raises MvmnixError when a build can't be read, so that it isn't known which files are its.
        """
        builds = tuple(Shelved(name, entry, self._files(entry)) for name, entry in self._library.whole_index())
        gone = rules.unused(builds, needs, spared=spared, finished=finished, before=before) if every else ()
        return self._remove(builds, gone, needs, remove=remove)

    def remove(self, names: Collection[str], needs: Collection[Need]) -> PruneResult:
        """Remove builds by the names of their index entries, and the files that were theirs alone.

        Raises UsageError when one of them is needed. They need not be readable themselves.
        """
        index = dict(self._library.whole_index())
        if held := sorted({who for name in names for who in rules.users_of(index[name], needs)}):
            hint = (
                "stop the machine, or remove the snapshot: mvm snapshot rm; "
                "a plan needs its image until it expires, or is forgotten: mvm plan ls, mvm plan rm"
            )
            raise UsageError(f"it is needed by {', '.join(held)}", hint=hint)
        builds = tuple(Shelved(name, entry, self._known_files(entry)) for name, entry in index.items())
        gone = tuple(build for build in builds if build.name in names)
        return self._remove(builds, gone, needs, remove=True, theirs=True)

    def _remove(
        self,
        builds: Iterable[Shelved],
        gone: tuple[Shelved, ...],
        needs: Collection[Need],
        *,
        remove: bool,
        theirs: bool = False,
    ) -> PruneResult:
        stay = tuple(build for build in builds if build not in gone)
        stay += tuple(map(self._outlived, rules.outlived([build.entry for build in stay], needs)))
        present = (
            frozenset[StoredFile]().union(*(build.files for build in gone)) if theirs else frozenset(self._present())
        )
        files = rules.surplus((file for file in present - self._held if self._has(file)), stay, needs)
        size = sum(self._library.rooms[file.room].weight(file.digest) for file in files)
        if remove:
            for build in gone:
                self._library.forget(build.name)
            for file in files:
                self._library.rooms[file.room].remove(file.digest)
        leftovers = {} if theirs else self._sweep(remove=remove)
        manifests = tuple(sorted({it.entry.manifest for it in gone} - {it.entry.manifest for it in stay}))
        return PruneResult(manifests, files, tuple(sorted(leftovers)), size + sum(leftovers.values()))

    def _outlived(self, entry: IndexEntry) -> Shelved:
        """Return what is kept of a build without an index entry: all evidence, since none is known not to be its."""
        known = self._files(entry) if self._library.images.has(entry.manifest) else self._known_files(entry)
        return Shelved(
            "", entry, known | set(self._present(StoreDirectory.BUNDLES, StoreDirectory.LOCKS, StoreDirectory.SBOMS))
        )

    def _files(self, entry: IndexEntry) -> frozenset[StoredFile]:
        try:
            return rules.files_of(entry, self._image(entry.manifest))
        except MvmnixError as error:
            raise _unreadable(entry, "which files are its", error) from error

    def _known_files(self, entry: IndexEntry) -> frozenset[StoredFile]:
        """The files of a build, as far as its manifest can be read."""
        try:
            return self._files(entry)
        except MvmnixError:
            return frozenset({StoredFile(StoreDirectory.IMAGES, entry.manifest)} | rules.evidence_of(entry))

    def _image(self, digest: Digest) -> Image:
        return manifest.parse(self._library.manifest(digest))

    def _present(self, *rooms: StoreDirectory) -> Iterator[StoredFile]:
        for room in rooms or self._library.rooms:
            yield from (StoredFile(room, digest) for digest in self._library.rooms[room].digests())

    def _has(self, file: StoredFile) -> bool:
        return self._library.rooms[file.room].has(file.digest)

    def _sweep(self, *, remove: bool) -> dict[str, int]:
        found = self._library.sweep(remove=remove)
        for store in self._library.rooms.values():
            found |= store.sweep(remove=remove)
        return found


def _unreadable(entry: IndexEntry, unknown: str, error: MvmnixError) -> MvmnixError:
    why = f"a kept build can't be read, so that it isn't known {unknown}: {error.message}"
    return MvmnixError(why, hint=f"mvm image rm {entry.manifest}")


@dataclass(frozen=True, slots=True)
class SourceGcResult:
    """What was removed, or would be: sources, what died writers left, and bytes in all."""

    sources: tuple[Digest, ...]
    leftovers: tuple[str, ...]
    size: int


def sources_of(claims: Iterable[Provenance]) -> Iterator[Digest]:
    """Yield the digests that builds were made from, of what is kept: to build them again without a network."""
    for claim in claims:
        yield from (source.digest for source in claim.sources)
        yield from (node.source.digest for node in claim.nodes.inputs)
        yield from (path.nar for path in claim.cached)
        yield from (path.nar for path in claim.kept)


def collect_garbage(sources: Store, needed: Collection[Digest], *, remove: bool = True) -> SourceGcResult:
    """Remove all other sources. The caller holds the lock that keeps builds and downloads out."""
    gone = tuple(digest for digest in sources.digests() if digest not in needed)
    size = sum(map(sources.weight, gone))
    if remove:
        for digest in gone:
            sources.remove(digest)
    leftovers = sources.sweep(remove=remove)
    return SourceGcResult(gone, tuple(sorted(leftovers)), size + sum(leftovers.values()))
