"""Fetches what a builder VM asks for into the source store: the fetchers of a session."""

from collections.abc import Sequence

from mvmnix.api import installation
from mvmnix.api.context import Context
from mvmnix.api.frontend import Progress
from mvmnix.builder.fetch.caches import Caches
from mvmnix.builder.fetch.flake_inputs import bring_tree
from mvmnix.builder.fetch.resolve import resolve_reference
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import LockedNode
from mvmnix.model import Digest, Source


class InputFetcher:
    """The fetchers of a session (builder/session/substituter.py)."""

    def __init__(self, context: Context, progress: Progress) -> None:
        self._progress = progress
        # opened here, in the caller's own thread; tasks share them
        self._store, self._policy, network = context.sources, context.policy, context.network
        self._downloader, self._fetching = network.downloader, network.fetching
        self._downloader.meter = progress
        self._registries = network.registries
        self._locks = installation.debian_locks()
        self.caches: Caches | None = network.caches(self._policy)

    def sources(self, sources: Sequence[Source]) -> None:
        """Bring files by hash; of seeds, this installation's alone."""
        self._registries.fetch(sources, self._progress)
        fetch_sources(sources, self._store, self._progress, locks=self._locks, downloader=self._downloader)

    def tree(self, node: LockedNode) -> None:
        """Bring a locked tree, if the policy lets such a one into a build."""
        if not self._policy.admits_input(node.uri):
            why = f"evaluation needs {node.uri}, which the trust policy does not admit"
            hint = "take another input, or extend inputs in trust.toml, [sources], if you mean to"
            raise refuse(ReasonCode.INPUT_NOT_ADMITTED, node.name, why, hint)
        bring_tree(node, self._store, self._fetching)

    def resolve(self, original: Attributes) -> tuple[Attributes, Digest]:
        """What a reference means now, for `mvm lock` (builder/lockfile/session.py): its tree is in the store then."""
        found = resolve_reference(original, self._store, self._fetching)
        return found.locked, found.nar
