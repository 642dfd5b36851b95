"""Opens all that reaches outside for one operation: the downloader, and what asks by it; imported when needed."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.caches import Caches
from mvmnix.builder.fetch.credentials import Credentials
from mvmnix.builder.fetch.flake_inputs import Fetched, FetchEnvironment
from mvmnix.builder.fetch.https import Downloader
from mvmnix.builder.fetch.resumable import DownloadLimits
from mvmnix.builder.oci.registry import Registries
from mvmnix.config import Config
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store


class Network:
    """The configuration says what may be asked, the trust policy which keys count. `opened` closes it all."""

    def __init__(self, rules: Config, sources: Store, trees: Directory, opened: ExitStack) -> None:
        self._rules = rules
        self._sources = sources
        self._trees = trees
        self._opened = opened
        self._rests: list[Callable[[], None]] = []

    @cached_property
    def downloader(self) -> Downloader:
        """The one downloader, for the hosts that the configuration lists."""
        rules = self._rules.fetch
        downloader = self._opened.enter_context(Downloader(Allowlist.of(rules), DownloadLimits.of(rules)))
        self._rests.append(downloader.lanes.rest)
        return downloader

    @cached_property
    def fetching(self) -> FetchEnvironment:
        """What fetching the trees of lock nodes needs: the downloader, credentials, and what was fetched from where."""
        credentials = Credentials(self._rules.credentials, os.environ)
        return FetchEnvironment(self.downloader, Fetched(self._trees), credentials, environment=os.environ)

    @cached_property
    def registries(self) -> Registries:
        """Where OCI images come from."""
        return Registries(self.downloader, self._sources)

    def caches(self, policy: TrustPolicy) -> Caches | None:
        """The binary caches of the configuration whose keys the policy knows too, None where there are none."""
        rules = tuple(
            replace(rule, keys=keys)
            for rule in self._rules.caches
            if (keys := tuple(key for key in rule.keys if key in policy.caches))
        )
        if not rules:
            return None
        caches = self._opened.enter_context(Caches(rules, DownloadLimits.of(self._rules.fetch)))
        self._rests.append(caches.rest)
        return caches

    def rest(self) -> None:
        """End what downloads, with its threads, until there is something to fetch again."""
        for rest in self._rests:
            rest()
