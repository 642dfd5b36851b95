"""Holds what the builder VM may have, what it was given, and what it asked for in vain; answers by hash.

A path is offered at once, or sought when the VM asks for it: a finder brings it meanwhile, in a thread of its own, and
the answer waits. A second question for the same path waits for the same search. A miss is final.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from mvmnix.digest import Digest
from mvmnix.formats.nar import nar_hash
from mvmnix.model import HashMode, StorePath

#: So many paths asked for in vain are remembered; a build asks for one per derivation at most (graph.py).
MAX_MISSED: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Offer:
    """A path that the builder may have: digest and size of its archive (NAR), and `archive`, which reads it.

    `address` says by which content the path has its name, None for one that is named by what it was built from;
    `origin` is whatever the offering side will want to know of a path that was given.
    """

    path: StorePath
    nar: Digest
    size: int
    archive: Callable[[], Iterable[bytes]]
    address: str | None = None
    references: tuple[StorePath, ...] = ()
    origin: object = None

    @classmethod
    def by_content(
        cls,
        path: StorePath,
        digest: Digest,
        mode: HashMode,
        archive: Callable[[], Iterable[bytes]],
        *,
        origin: object = None,
    ) -> Self:
        """An offer that is addressed by content and refers to nothing; its archive is read once, to know its hash."""
        nar, size = nar_hash(archive())
        return cls(path, nar, size, archive, content_address(digest, mode), origin=origin)

    @property
    def narinfo(self) -> bytes:
        """Its narinfo (Nix manual, "Store Types: HTTP Binary Cache Store"); the URL is one of ours."""
        references = " ".join(f"{path.hash}-{path.name}" for path in self.references)
        address = "" if self.address is None else f"CA: {self.address}\n"
        return (
            f"StorePath: {self.path}\nURL: nar/{self.path.hash}.nar\nCompression: none\n"
            f"NarHash: sha256:{self.nar.nix32}\nNarSize: {self.size}\nReferences: {references}\n{address}"
        ).encode()


def content_address(digest: Digest, mode: HashMode) -> str:
    """The content address of a fixed output (narinfo field CA)."""
    return f"fixed:{'r:' if mode is HashMode.NAR else ''}sha256:{digest.nix32}"


class PathSearch:
    """A search that is under way; `over` once it has ended, found or not."""

    def __init__(self) -> None:
        self.over = False
        self._waiting: list[Callable[[], None]] = []

    def tell(self, wake: Callable[[], None]) -> None:
        """Call this when it is over. From the asking thread only, as `end` is."""
        if self.over:
            wake()
        else:
            self._waiting.append(wake)

    def end(self) -> None:
        """It is over: everybody who waits is told."""
        self.over = True
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()


class PathFinder(Protocol):
    """Looks for paths that were not offered yet. Called in the thread that answers the VM; never blocks it."""

    def seek(self, name: str, offer: Callable[[Offer | None], None]) -> bool:
        """Begin to look for the path with this hash, and call `offer` once, in the asking thread, with what was found.

        False when no source could have it: a miss, at once.
        """


@dataclass(slots=True)
class OfferLedger:
    """What the builder was offered, what it was given, and what it asked for in vain; one for a session."""

    finder: PathFinder | None = None
    offers: dict[str, Offer] = field(default_factory=dict)
    given: dict[str, Offer] = field(default_factory=dict)
    missed: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)
    _searches: dict[str, PathSearch] = field(default_factory=dict)

    def offer(self, offers: Iterable[Offer]) -> None:
        """Let these paths be asked for."""
        self.offers.update((offer.path.hash, offer) for offer in offers)

    def search(self, name: str) -> PathSearch | None:
        """The search for a path that isn't offered, begun now or before; None when there is nothing to wait for."""
        if name in self.offers or name in self.missed or self.finder is None:
            return None
        if name not in self._searches:
            searching = self._searches[name] = PathSearch()
            if not self.finder.seek(name, lambda found: self._found(name, found)):
                del self._searches[name]
                return None
            return searching
        return self._searches[name]

    def narinfo(self, name: str) -> bytes | None:
        """The narinfo of an offer; None for a miss."""
        offer = self.offers.get(name)
        if offer is None:
            if len(self.missed) < MAX_MISSED:
                self.missed.add(name)
            return None
        self._told.add(name)
        return offer.narinfo

    def archive(self, name: str) -> tuple[int, Iterable[bytes]] | None:
        """Size and bytes of an offer's archive, once its narinfo was read; from here on it counts as given."""
        offer = self.offers.get(name)
        if offer is None or name not in self._told:
            return None
        self.given[name] = offer
        return offer.size, offer.archive()

    def forget_misses(self, names: Iterable[str]) -> None:
        """Let paths that were missed be asked for anew: it is known now where they come from."""
        self.missed.difference_update(names)

    def _found(self, name: str, found: Offer | None) -> None:
        searching = self._searches.pop(name)
        if found is not None and found.path.hash == name:
            self.offers[name] = found
        searching.end()
