"""Brings what the builder VM asks for: by hash, from the lock, the graph, kept parts or allowed binary caches.

What a path may be is known before it is asked for; only caches are asked for unknown paths, and only by the
hash in their name. The bytes come through the source store, where nothing has a name before it has its hash.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, assert_never

from mvmnix.builder.session.ledger import Offer, content_address
from mvmnix.builder.session.worker_pool import Outcome, WorkerPool
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, join_errors
from mvmnix.formats import nar
from mvmnix.formats.lock import LockedNode
from mvmnix.formats.nar import nar_hash
from mvmnix.model import HashMode, Source, StorePath
from mvmnix.provenance.slsa.provenance import Cached, KeptPath
from mvmnix.system.store import Store

if TYPE_CHECKING:  # code that asks caches has loaded what it takes
    from mvmnix.builder.fetch.caches import CachedPath


class Caches(Protocol):
    """The binary caches that may be asked."""

    def find(self, hash_part: str, doubt: Callable[[MvmnixError], None]) -> "CachedPath | None":
        """What a trusted key says of the path with this hash; `doubt` gets what doesn't count. Raises MvmnixError."""

    def bring(self, path: "CachedPath", store: Store) -> None:
        """Its archive, under its digest, into the store. Raises MvmnixError."""


class SourceFetchers(Protocol):
    """Who brings things from outside into the source store; called from several threads."""

    def sources(self, sources: Sequence[Source]) -> None:
        """Bring these files. Raises MvmnixError, naming all that failed."""

    def tree(self, node: LockedNode) -> None:
        """Bring the tree of a lock node, under the digest of its archive. Raises MvmnixError."""

    @property
    def caches(self) -> Caches | None:
        """The binary caches, None where none is allowed."""


type Known = Source | LockedNode | KeptPath


class SourceFinder:
    """The seeker of one session (ledger.py). `note` logs each question to others before it is asked.

    What a cache can't give, or gives without a trusted signature, the VM builds; why it did not count is logged too.
    """

    def __init__(
        self, fetchers: SourceFetchers, store: Store, workers: WorkerPool, note: Callable[[str], None]
    ) -> None:
        self._fetchers = fetchers
        self._store = store
        self._workers = workers
        self._note = note
        self._known: dict[str, Known] = {}
        self._failures: list[MvmnixError] = []
        self._doubts: list[MvmnixError] = []

    def know(self, things: Iterable[Known]) -> None:
        """Let these be brought when the VM asks for them; what was known of a path before stays."""
        for thing in things:
            path = thing.path if isinstance(thing, KeptPath) else thing.store_path
            self._known.setdefault(path.hash, thing)

    @property
    def failure(self) -> MvmnixError | None:
        """Why something that is known could not be had: all refusals at once, or else the first failure."""
        return join_errors(self._failures)

    @property
    def doubt(self) -> str:
        """The first reason for which a binary cache's answer did not count, "" when all of them did."""
        return str(self._doubts[0]) if self._doubts else ""

    def seek(self, name: str, offer: Callable[[Offer | None], None]) -> bool:
        """Begin to bring the path with this hash (ledger.py: PathFinder)."""
        known = self._known.get(name)
        if known is not None:
            self._workers.start(partial(self._bring, known), partial(self._answer, offer, self._failures.append))
            return True
        if self._fetchers.caches is not None:
            search = partial(self._substitute, self._fetchers.caches, name)
            self._workers.start(search, partial(self._answer, offer, self._doubt))
            return True
        return False

    def _answer(
        self,
        offer: Callable[[Offer | None], None],
        note: Callable[[MvmnixError], None],
        outcome: Outcome[Offer | None],
    ) -> None:
        if isinstance(outcome, MvmnixError):
            note(outcome)
            offer(None)
        else:
            offer(outcome)

    def _doubt(self, why: MvmnixError) -> None:
        self._doubts.append(why)
        self._note(f"a binary cache's answer does not count: {why}")

    def _bring(self, known: Known) -> Offer:
        match known:
            case Source():
                if not self._store.has(known.digest):
                    self._note(f"asking for {known.uri} ({known.digest})")
                    self._fetchers.sources((known,))
                return self._by_content(known, known)
            case LockedNode():
                self._note(f"asking for {known.uri} (lock node {known.name})")
                self._fetchers.tree(known)
                return self._by_content(known.source, known)
            case KeptPath():
                return self._named(known.path, known.nar, (), known)
            case _:
                assert_never(known)

    def _substitute(self, caches: Caches, name: str) -> Offer | None:
        self._note(f"asking for {name}.narinfo, of the binary caches")
        found = caches.find(name, self._doubt)
        if found is None:
            return None
        self._note(f"asking for {found.uri} ({found.path}, signed by {found.key})")
        caches.bring(found, self._store)
        origin = Cached(found.path, found.uri, found.nar, found.key)
        return self._named(found.path, found.nar, found.references, origin)

    def _by_content(self, source: Source, origin: Known) -> Offer:
        """An offer of a source in the store. Its bytes are hashed here, and by the VM when they arrive."""
        size = self._store.size(source.digest)
        archive = partial(_archive, self._store, source.digest, size, source.mode)
        digest, length = nar_hash(archive()) if source.mode is HashMode.FLAT else (source.digest, size)
        address = content_address(source.digest, source.mode)
        return Offer(source.store_path, digest, length, archive, address, origin=origin)

    def _named(self, path: StorePath, digest: Digest, references: tuple[StorePath, ...], origin: object) -> Offer:
        size = self._store.size(digest)  # hashed: nothing that lies there is trusted
        archive = partial(_archive, self._store, digest, size, HashMode.NAR)
        return Offer(path, digest, size, archive, references=references, origin=origin)


def _archive(store: Store, digest: Digest, size: int, mode: HashMode) -> Iterator[bytes]:
    """The archive of a kept file, as a stream; the VM holds it against the hash that it was told."""
    chunks = store.stream(digest)
    yield from nar.nar_of_file(size, chunks) if mode is HashMode.FLAT else chunks
