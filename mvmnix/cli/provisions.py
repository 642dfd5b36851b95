"""Brings what a builder VM asks for into the source store, for one command: wires the suppliers of a session."""

from collections.abc import Sequence

from mvmnix.builder.fetch.resolve import resolve
from mvmnix.builder.fetch.sources import fetch
from mvmnix.builder.fetch.trees import bring
from mvmnix.builder.session.supply import Caches
from mvmnix.cli.house import House
from mvmnix.cli.progress import Steps
from mvmnix.lock import Attributes, LockedNode
from mvmnix.model import Digest, Source


class Provisions:
    """The suppliers of a session (builder/session/supply.py)."""

    def __init__(self, house: House, progress: Steps) -> None:
        self._house = house
        self._progress = progress
        # opened here, in the command's own thread; errands share them
        self._store, self._registries, self._outside = house.sources, house.registries, house.outside

    def sources(self, sources: Sequence[Source]) -> None:
        """Bring files by hash."""
        self._registries.fetch(sources, self._progress)
        fetch(sources, self._store, self._progress)

    def tree(self, node: LockedNode) -> None:
        """Bring a locked tree."""
        bring(node, self._store, self._outside)

    def resolve(self, original: Attributes) -> tuple[Attributes, Digest]:
        """What a reference means now, for `mvm lock` (builder/locking/session.py): its tree is in the store then."""
        found = resolve(original, self._store, self._outside)
        return found.locked, found.nar

    @property
    def caches(self) -> Caches | None:
        """The binary caches of the configuration, if it names any."""
        return self._house.caches
