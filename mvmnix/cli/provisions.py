"""Brings what a builder VM asks for into the source store, for one command: wires the suppliers of a session."""

from collections.abc import Sequence

from mvmnix.builder.fetch.sources import fetch
from mvmnix.builder.session.supply import Caches
from mvmnix.cli.house import House
from mvmnix.cli.progress import Steps
from mvmnix.errors import ReasonCode, refuse
from mvmnix.lock import LockedNode
from mvmnix.model import Source


class Provisions:
    """The suppliers of a session (builder/session/supply.py)."""

    def __init__(self, house: House, progress: Steps) -> None:
        self._house = house
        self._progress = progress
        # opened here, in the command's own thread; errands share them
        self._store, self._registries = house.sources, house.registries

    def sources(self, sources: Sequence[Source]) -> None:
        """Bring files by hash."""
        self._registries.fetch(sources, self._progress)
        fetch(sources, self._store, self._progress)

    def tree(self, node: LockedNode) -> None:
        """Bring a locked tree."""
        hint = "x"
        raise refuse(ReasonCode.LOCK_NODE_UNSUPPORTED, node.name, f"evaluation needs {node.uri}", hint)

    @property
    def caches(self) -> Caches | None:
        """The binary caches of the configuration, if it names any."""
        return self._house.caches
