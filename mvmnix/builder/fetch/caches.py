"""Asks the allowed binary caches for store paths, and brings archives for which a trusted key has vouched.

1. A question is `GET /<hash>.narinfo`, below the cache's address: it carries a hash and nothing else, and there are so
   many at most. An answer is final for the build, a miss too.
2. An answer counts when it is a narinfo for the path that was asked for, and a trusted key has signed it (`vouched`).
3. The archive comes from the cache's own origin, is unpacked into no more bytes than were signed, and gets its name
   once it has the signed hash and size.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import ChangedError, Downloader, DownloadError, DownloadLimits
from mvmnix.builder.fetch.narinfo import parse_narinfo, vouched
from mvmnix.builder.fetch.parsing import Expander, document_texts
from mvmnix.builder.fetch.worker.packets import Compression, Document
from mvmnix.config import CacheRule
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, join_errors, refuse
from mvmnix.formats.strict import MalformedError
from mvmnix.model import StorePath
from mvmnix.system.store import Incoming, Store

#: Bytes of an answer to a question; a larger one is none.
_MAX_NARINFO: Final = 1 << 20
#: Questions of one build.
MAX_ASKED: Final = 20_000
#: What a cache answers that hasn't got it; 403 is how some object stores say so.
_MISSES: Final = frozenset({403, 404, 410})


@dataclass(frozen=True, slots=True)
class CachedPath:
    """A store path that a cache has: `key` (name:base64) vouched for path, archive, size and references."""

    path: StorePath
    uri: str
    nar: Digest
    size: int
    references: tuple[StorePath, ...]
    key: str
    cache: str
    compression: Compression


class Caches:
    """The caches of the configuration, in its order, for one build; safe for many threads.

    A context manager, which cuts what still runs and lets the connections go.
    """

    def __init__(
        self, rules: Sequence[CacheRule], limits: DownloadLimits, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._rules = tuple(rules)
        self._limits = limits
        self._opened = ExitStack()
        self._downloaders = {
            rule.url: self._opened.enter_context(Downloader(_origin(rule), limits, environment=environment))
            for rule in self._rules
        }
        self._lock = threading.Lock()
        self._asked = 0
        self._answers: dict[str, CachedPath | MvmnixError | None] = {}
        self._down: dict[str, DownloadError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def rest(self) -> None:
        """End the workers, until there is another question."""
        for downloader in self._downloaders.values():
            downloader.lanes.rest()

    def find(self, hash_part: str, doubt: Callable[[MvmnixError], None] = lambda _: None) -> CachedPath | None:
        """What the first cache has that has the path with this hash, signed; None when all say that they haven't.

        `doubt` gets why answers of caches before that one don't count.
        Raises RefusedError [cache-malformed, cache-signature, fetch-limit …] when what some say doesn't count and no
        other has it, and MvmnixError when some could not be asked.
        """
        with self._lock:
            known = hash_part in self._answers
            answer = self._answers.get(hash_part)
        if not known:
            answer = self._ask(hash_part, doubt)
            with self._lock:
                answer = self._answers.setdefault(hash_part, answer)
        if isinstance(answer, MvmnixError):
            raise answer
        return answer

    def bring(self, path: CachedPath, store: Store) -> None:
        """Put the archive of a path into the store, under its digest.

        Raises RefusedError [source-mismatch, fetch-limit, fetch-not-allowed] and MvmnixError.
        """
        try:
            self._bring(path, store)
        except ChangedError:
            self._bring(path, store)

    def _ask(self, hash_part: str, doubt: Callable[[MvmnixError], None]) -> CachedPath | MvmnixError | None:
        StorePath(hash_part, "x")  # nothing but a hash goes out
        problems: list[MvmnixError] = []
        for rule in self._rules:
            try:
                found = self._ask_one(rule, hash_part)
            except MvmnixError as error:
                problems.append(error)
                continue
            if found is not None:
                for problem in problems:
                    doubt(problem)
                return found
        return join_errors(problems)

    def _ask_one(self, rule: CacheRule, hash_part: str) -> CachedPath | None:
        # 1. the question
        url = f"{rule.url}/{hash_part}.narinfo"
        self._may_ask(rule)
        text = bytearray()
        downloader = self._downloaders[rule.url]
        try:
            downloader.get(url, text.extend, limit=_MAX_NARINFO)
        except DownloadError as error:
            if error.status in _MISSES:
                return None
            with self._lock:
                self._down[rule.url] = error
            raise
        # 2. the answer
        try:
            info = parse_narinfo(document_texts(downloader.lanes, Document.NARINFO, bytes(text)))
        except MalformedError as error:
            raise error.refused(
                ReasonCode.CACHE_MALFORMED, url, "look at that cache; docs/reference/fetching.md"
            ) from error
        if info.path.hash != hash_part:
            raise refuse(ReasonCode.CACHE_MALFORMED, url, f"it is about {info.path}", "look at that cache")
        if info.size > self._limits.size:
            why = f"{info.path} has {info.size} bytes, and may have {self._limits.size}"
            raise refuse(ReasonCode.FETCH_LIMIT, url, why, "raise size-limit-mib in config.toml, if that is right")
        key = vouched(info, rule.keys)
        uri = f"{rule.url}/{info.url}"
        return CachedPath(info.path, uri, info.nar, info.size, info.references, key.text, rule.url, info.compression)

    def _may_ask(self, rule: CacheRule) -> None:
        with self._lock:
            if rule.url in self._down:  # it was asked often enough to know
                raise self._down[rule.url]
            if self._asked >= MAX_ASKED:
                why = f"this build has asked the caches {self._asked} times"
                raise refuse(ReasonCode.FETCH_LIMIT, rule.url, why, "build in parts, or look at what it asks for")
            self._asked += 1

    def _bring(self, path: CachedPath, store: Store) -> None:
        incoming = store.receive()
        try:
            # 3. the archive
            self._receive(path, incoming)
            if (incoming.digest, incoming.size) != (path.nar, path.size):
                raise _mismatch(path, f"it is {incoming.digest.sri} of {incoming.size} bytes")
            incoming.keep()
        finally:
            incoming.discard()

    def _receive(self, path: CachedPath, incoming: Incoming) -> None:
        # what can't be packed any smaller grows a little
        packed = path.size + path.size // 16 + (1 << 16)
        downloader = self._downloaders[path.cache]
        try:
            with Expander(downloader.lanes, path.compression, path.size) as expander:
                downloader.get(path.uri, _writer(expander, incoming), limit=packed)
                expander.close()
        except MalformedError as error:
            raise _mismatch(path, str(error)) from error


def _writer(expander: Expander, incoming: Incoming) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        for chunk in expander.feed(data):
            incoming.write(chunk)

    return write


def _mismatch(path: CachedPath, why: str) -> RefusedError:
    said = f"what {path.key} signed is {path.nar.sri} of {path.size} bytes; {why}"
    return refuse(ReasonCode.SOURCE_MISMATCH, path.uri, said, "look at that cache, or build without it")


def _origin(rule: CacheRule) -> Allowlist:
    """A cache is reached at its own origin and nowhere else, whatever it redirects to."""
    scheme, _, rest = rule.url.partition("://")
    place = rest.partition("/")[0]
    if rule.is_local:
        return Allowlist(frozenset(), frozenset({f"{scheme}://{place}"}))
    return Allowlist(frozenset({place}))
