"""Brings build inputs into the store by their hash: through apt and pip, and from listed addresses of the web.

1. A source that the store has is left alone: its bytes are hashed when they are used.
2. What is missing is downloaded in batches by a few children, mirror after mirror.
3. Each file is hashed here, whatever its downloader said, before it gets its name in the store.
4. Everything that could not be had is named at once, with the one command that repairs it.
5. A seed is taken out of its package (seed.py) where the caller's own locks pin both. Those that a flake names are
   refused: its fixed outputs would choose what is unpacked.
"""

import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import batched

from mvmnix.builder.fetch.downloads import downloaded
from mvmnix.builder.fetch.https import Downloader
from mvmnix.builder.fetch.https_sources import Web, is_web
from mvmnix.builder.fetch.registries import Failure, FailureKind, Mirror, Progress, Registry
from mvmnix.builder.pins.debian import Apt
from mvmnix.builder.pins.locks import DebianLock, PythonLock
from mvmnix.builder.pins.pypi import Pip
from mvmnix.builder.pins.seed import LIMIT, executable, seed_nar
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, join_errors, refuse
from mvmnix.model import HashMode, Source
from mvmnix.plural import counted
from mvmnix.sandbox.child import Pipe
from mvmnix.system.child_causes import Cause
from mvmnix.system.process import ProcessError
from mvmnix.system.store import Store

#: Children at a time: more would only share the same line, and a mirror shall not be stormed.
CHILDREN = 4
#: So many of the pins that could not be fetched are named.
_NAMED = 12


def fetch_sources(
    sources: Iterable[Source],
    store: Store,
    progress: Progress,
    *,
    locks: Iterable[DebianLock] = (),
    registries: Sequence[Registry] | None = None,
    downloader: Downloader | None = None,
) -> None:
    """Bring every source into the store; those with https addresses by `downloader`, if there is one.

    Raises RefusedError [source-unknown] for a URI that no registry answers for and a seed of none of `locks`,
    [source-unusable] for a seed's package, [fetch-not-allowed] for an address that is not on the list,
    [source-mismatch] for wrong bytes, [fetch-limit]; and MvmnixError for what is no longer served or can't be reached.
    """
    answering = (Apt(), Pip()) if registries is None else registries
    missing = [source for source in dict.fromkeys(sources) if not store.has(source.digest)]
    web = None if downloader is None else Web(downloader, store, progress)
    far = [source for source in missing if web is not None and is_web(source)]
    near = [source for source in missing if web is None or not is_web(source)]
    packages = {lock.seed_source: lock.seed_package for lock in locks}
    seeds = [source for source in near if source.mode is HashMode.NAR]
    reasons = _unknown(near, answering) + _foreign(seeds, packages) + (web.refusals(far) if web is not None else [])
    if reasons:
        raise RefusedError(*reasons)
    absent = (package for seed in seeds if not store.has((package := packages[seed]).digest))
    files = list(dict.fromkeys((*(source for source in near if source.mode is HashMode.FLAT), *absent)))
    progress.total(len(files) + len(far))
    problems = web.run(far) if web is not None and far else []
    failed: dict[Source, Failure] = {}
    client: ProcessError | None = None
    for registry in answering:
        download = _Download(registry, store, progress)
        failed |= download.run(_of(registry, files))
        client = client or download.client
    if problems := [*problems, *([_failure(failed, answering, client)] if failed else ())]:
        raise _joined(problems) from client
    for seed in seeds:
        _take_out(seed, packages[seed], store)


def fetch_all(locks: Iterable[DebianLock | PythonLock], store: Store, progress: Progress) -> tuple[Source, ...]:
    """Bring every source of these locks into the store, and return them."""
    known = tuple(locks)
    sources = tuple(source for lock in known for source in lock.sources())
    fetch_sources(sources, store, progress, locks=[lock for lock in known if isinstance(lock, DebianLock)])
    return sources


class _Download:
    """One registry's part of a fetch: `store` keeps what arrives, `progress` is told by one thread at a time."""

    def __init__(self, registry: Registry, store: Store, progress: Progress) -> None:
        self._registry = registry
        self._store = store
        self._progress = progress
        self._telling = threading.Lock()
        self._cancel = Pipe()
        #: The first client that failed, whose file is among those that `run` returns.
        self.client: ProcessError | None = None

    def run(self, sources: Sequence[Source]) -> dict[Source, Failure]:
        """Try all mirrors in order; returns what failed at every one of them. For one call."""
        failed: dict[Source, Failure] = {}
        left = list(sources)
        try:
            for mirror in self._registry.mirrors() if left else ():
                now = self._round(mirror, left)
                failed = {one: failed[one].joined(why) if one in failed else why for one, why in now.items()}
                left = list(now)
        finally:
            self._cancel.close()
        return failed

    def _round(self, mirror: Mirror, sources: Sequence[Source]) -> dict[Source, Failure]:
        """One mirror, a few children side by side. Once it fails for a whole batch it isn't asked for the others."""
        down: list[Failure] = []

        def attempt(batch: Sequence[Source]) -> dict[Source, Failure]:
            if down:
                return dict.fromkeys(batch, down[0])
            failed = self._batch(mirror, batch)
            if len(failed) == len(batch) and all(one.trouble is FailureKind.FAILED for one in failed.values()):
                down.append(failed[batch[0]])
            return failed

        with ThreadPoolExecutor(CHILDREN) as pool:
            try:
                results = list(pool.map(attempt, batched(sources, self._registry.batch, strict=False)))
            except BaseException:
                # interrupted, say: what runs is ended, what waits is dropped
                pool.shutdown(wait=False, cancel_futures=True)
                self._cancel.close(self._cancel.writing)
                raise
        return {source: failure for result in results for source, failure in result.items()}

    def _batch(self, mirror: Mirror, batch: Sequence[Source]) -> dict[Source, Failure]:
        """One child; what it left out without a word is asked for again, one by one, to learn why."""
        failed, unexplained = self._attempt(mirror, batch)
        if len(batch) == 1:
            return failed | unexplained
        for source in unexplained:
            failed |= self._batch(mirror, [source])
        return failed

    def _attempt(self, mirror: Mirror, batch: Sequence[Source]) -> tuple[dict[Source, Failure], dict[Source, Failure]]:
        """Run one child; returns what failed for a known reason, and what just did not arrive."""
        names = [mirror.file(source) for source in batch]
        with downloaded(mirror.command(batch), names, cancelled=self._cancel.reading) as done:
            failed = dict(mirror.failures(batch, done.said) if done.status else {})
            if done.status and self.client is None:
                self.client = done.failure()
            failed = {source: failure.because(done.refusals) for source, failure in failed.items()}
            absent = {}
            for source in [one for one in batch if one not in failed]:
                content = done.content(mirror.file(source))
                if content is None:
                    absent[source] = Failure(FailureKind.FAILED, "nothing arrived").because(done.refusals)
                    continue
                try:
                    self._keep(source, content)
                except RefusedError as error:
                    failed[source] = Failure(FailureKind.WRONG, error.reasons[0].why)
        return failed, absent

    def _keep(self, source: Source, content: Iterable[bytes]) -> None:
        """Put a downloaded file into the store, which hashes it."""
        size = self._store.put(content, source.digest)
        with self._telling:
            self._progress.advance(source.name, size)


def _take_out(seed: Source, package: Source, store: Store) -> None:
    """Keep the NAR of a seed, whose executable is in a package."""
    path = seed.uri.partition("#")[2]
    data = executable(package, store.read(package.digest, limit=LIMIT), path)
    try:
        store.put(seed_nar(path, data), seed.digest)
    except RefusedError as error:
        why = error.reasons[0].why
        raise refuse(ReasonCode.SOURCE_MISMATCH, seed.uri, why, "let `mvm pin update` write the seed anew") from error


def _foreign(seeds: Iterable[Source], packages: Container[Source]) -> list[Reason]:
    """Refusals of what is to be taken out of a package, and is the seed of no lock."""
    why = "it is taken out of a package, and is not the seed that mvm's own lock pins"
    hint = "where the flake's own lock pins it, and you trust that: mvm pin fetch, in that flake"
    return [Reason(ReasonCode.SOURCE_UNKNOWN, seed.uri, why, hint) for seed in seeds if seed not in packages]


def _unknown(sources: Iterable[Source], registries: Sequence[Registry]) -> list[Reason]:
    """Why there is no registry for some of these, or none of its files can have that name."""
    schemes = tuple(registry.scheme for registry in registries)
    hint = f"pin it: {' and '.join(schemes)} are known"
    reasons = []
    for source in sources:
        if not source.uri.startswith(schemes):
            reasons.append(Reason(ReasonCode.SOURCE_UNKNOWN, source.uri, "no registry answers for this URI", hint))
            continue
        try:
            _registry(source, registries).describe(source)
        except ValueError as error:
            reasons.append(Reason(ReasonCode.SOURCE_UNKNOWN, source.uri, str(error), "correct the URI in the flake"))
    return reasons


def _joined(problems: Sequence[MvmnixError]) -> MvmnixError:
    """Everything that went wrong as one: what is refused, or else what failed."""
    if isinstance(refused := join_errors(problems), RefusedError):
        return refused
    hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
    return MvmnixError("\n".join(problem.message for problem in problems), hint=" && ".join(hints))


def _failure(
    failed: Mapping[Source, Failure], registries: Sequence[Registry], client: ProcessError | None
) -> MvmnixError:
    """What to tell of everything that failed: wrong bytes are refused; the rest is an error with one repair.

    `client` is the first one that failed, whose cause decides what is to be done first.
    """
    by_trouble = {trouble: [one for one in sorted(failed) if failed[one].trouble is trouble] for trouble in FailureKind}
    if by_trouble[FailureKind.WRONG]:
        return RefusedError(*(_wrong(source, failed[source], registries) for source in by_trouble[FailureKind.WRONG]))
    gone, unreached = by_trouble[FailureKind.GONE], by_trouble[FailureKind.FAILED]
    lines = [f"{_described(one, registries)} is no longer served ({one.uri}: {failed[one].why})" for one in gone]
    hints = [registry.repair(mine) for registry in registries if (mine := _of(registry, gone))]
    if unreached:
        names = ", ".join(_described(source, registries) for source in unreached[:_NAMED])
        names += f" and {len(unreached) - _NAMED} more" if len(unreached) > _NAMED else ""
        said = f" ({client.cause.strip()})" if client is not None and client.cause else ""
        why = failed[unreached[0]].why
        lines.append(f"{counted(len(unreached), 'pin')} could not be fetched: {names}. The first: {why}{said}")
        if client is None or client.kind in {Cause.OWN, Cause.NETWORK}:
            hints.append("mvm pin fetch (once the network, and apt's and pip's configuration, are seen to)")
        else:
            hints.append(f"{client.hint}; then: mvm pin fetch")
    return MvmnixError("\n".join(lines), hint=" && ".join(hints))


def _wrong(source: Source, failure: Failure, registries: Sequence[Registry]) -> Reason:
    why = f"what was served does not hash to {source.digest}: {failure.why}"
    repair = _registry(source, registries).repair([source])
    hint = f"find out who serves it; if it was replaced for a good reason: {repair}"
    return Reason(ReasonCode.SOURCE_MISMATCH, source.uri, why, hint)


def _described(source: Source, registries: Sequence[Registry]) -> str:
    return " ".join(_registry(source, registries).describe(source))


def _registry(source: Source, registries: Sequence[Registry]) -> Registry:
    return next(registry for registry in registries if source.uri.startswith(registry.scheme))


def _of(registry: Registry, sources: Iterable[Source]) -> list[Source]:
    return [source for source in sources if source.uri.startswith(registry.scheme)]
