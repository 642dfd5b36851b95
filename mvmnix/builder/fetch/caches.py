"""Asks the allowed binary caches for store paths, and brings archives for which a trusted key has vouched.

1. A question is `GET /<hash>.narinfo`, below the cache's address: it carries a hash and nothing else, and there are so
   many at most. Each is recorded, whatever comes of it; an answer is final for the build, a miss too.
2. An answer counts when it is a narinfo for the path that was asked for, and a trusted key has signed it (`vouched`).
3. The archive comes from the cache's own origin, is unpacked into no more bytes than were signed, and gets its name
   once it has the signed hash and size.
"""

import base64
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from itertools import batched
from types import TracebackType
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import ChangedError, Downloader, DownloadError, DownloadLimits
from mvmnix.builder.fetch.parsing import Compression, Expander, document_texts
from mvmnix.builder.fetch.worker.packets import Document
from mvmnix.config import CacheKey, CacheRule
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats.strict import MalformedError
from mvmnix.model import NIX32, STORE_DIR, Digest, StorePath
from mvmnix.system.store import Incoming, Store

# Decides what counts of what a binary cache says of a store path, and whose word; no file, no network.
#
# The download worker takes the text apart (worker/documents.py); what it gives are names and values.
#
# Nix manual, "narinfo" and "Signatures"; nix: libstore/nar-info.cc and path-info.cc (ValidPathInfo::fingerprint).
#
# 1. Each field that counts stands there once and is well formed.
# 2. The archive lies below the cache's own address.
# 3. A key that is listed for this cache has signed StorePath, NarHash, NarSize and References. Nothing else is covered,
#    so nothing else is trusted: Deriver, System, FileHash and FileSize are not read, a `CA:` field is no signature.

#: How many paths and signatures an answer may name.
MAX_REFERENCES: Final = 10_000
MAX_SIGNATURES: Final = 64

_URL: Final = re.compile(r"[A-Za-z0-9_~+=-][A-Za-z0-9._~+=-]*(/[A-Za-z0-9_~+=-][A-Za-z0-9._~+=-]*)*")
_SIZE: Final = re.compile(r"[1-9][0-9]{0,17}")
_NEEDED: Final = ("StorePath", "URL", "NarHash", "NarSize", "References")


@dataclass(frozen=True, slots=True)
class NarInfo:
    """What a cache says of a path. `url` is relative to the cache; `nar` and `size` are the unpacked archive's."""

    path: StorePath
    url: str
    compression: Compression
    nar: Digest
    size: int
    references: tuple[StorePath, ...]
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def fingerprint(self) -> bytes:
        """What the signatures are over."""
        references = ",".join(map(str, self.references))
        return f"1;{self.path};sha256:{self.nar.nix32};{self.size};{references}".encode()


def parse_narinfo(texts: Sequence[str]) -> NarInfo:
    """What the names and values of a narinfo say, in turns. Raises MalformedError with all problems."""
    fields = _fields(texts)
    problems: list[str] = []

    def read[T](name: str, parse_it: Callable[[str], T]) -> T | None:
        (value,) = fields[name]
        try:
            return parse_it(value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            return None

    signatures = tuple(signature for text in fields.get("Sig", ()) if (signature := _signature(text, problems)))
    fields.setdefault("Compression", ["bzip2"])  # as Nix takes it (nar-info.cc)
    place = read("StorePath", StorePath.parse), read("URL", _url), read("Compression", _compression)
    archive = read("NarHash", _digest), read("NarSize", _size), read("References", _references)
    match (*place, *archive):
        case (
            StorePath() as path,
            str() as url,
            Compression() as how,
            Digest() as nar,
            int() as size,
            tuple() as needed,
        ) if not problems:
            return NarInfo(path, url, how, nar, size, needed, signatures)
        case _:
            raise MalformedError(*problems)


def vouched(info: NarInfo, keys: Iterable[CacheKey]) -> CacheKey:
    """The first of these keys whose signature is good. Raises RefusedError [cache-signature]."""
    for key in keys:
        for name, signature in info.signatures:
            if name == key.name and _is_good(key, signature, info.fingerprint):
                return key
    names = ", ".join(dict.fromkeys(name for name, _ in info.signatures)) or "no key"
    why = f"no key that is listed for this cache has signed it; it says it was signed by {names}"
    hint = "add that key to the cache's keys in config.toml, if you trust it"
    raise refuse(ReasonCode.CACHE_SIGNATURE, str(info.path), why, hint)


def _is_good(key: CacheKey, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _fields(texts: Sequence[str]) -> dict[str, list[str]]:
    """The values by their names; those that count are all there, and once."""
    if len(texts) % 2:
        raise MalformedError("a field without a value")
    fields: dict[str, list[str]] = {}
    for name, value in batched(texts, 2, strict=True):
        fields.setdefault(name, []).append(value)
    problems = [f"{name} is missing" for name in _NEEDED if name not in fields]
    problems += [f"{name} is listed twice" for name in fields if len(fields[name]) > 1 and name != "Sig"]
    if len(fields.get("Sig", ())) > MAX_SIGNATURES:
        problems.append(f"more than {MAX_SIGNATURES} signatures")
    if problems:
        raise MalformedError(*problems)
    return fields


def _url(text: str) -> str:
    # 2. without scheme, host, leading slash, query, escapes, and names that begin with a dot
    if len(text) > 1024 or not _URL.fullmatch(text):
        raise ValueError(f"not a plain path below the cache: {text[:80]!r}")
    return text


def _size(text: str) -> int:
    if not _SIZE.fullmatch(text):
        raise ValueError(f"not a size in bytes: {text[:32]!r}")
    return int(text)


def _compression(text: str) -> Compression:
    if text not in set(Compression):
        raise ValueError(f"{text[:32]!r} is not supported; {', '.join(Compression)} are")
    return Compression(text)


def _digest(text: str) -> Digest:
    """`sha256:` and Nix's base 32, or SRI."""
    if text.startswith("sha256-"):
        return Digest.from_sri(text)
    match = re.fullmatch(rf"sha256:([{NIX32}]{{52}})", text)
    number = 0
    for letter in match[1] if match else "":
        number = number << 5 | NIX32.index(letter)
    if match is None or number >> 256:
        raise ValueError(f"not a SHA-256 digest in Nix's base 32 or as SRI: {text[:80]!r}")
    return Digest(number.to_bytes(32, "little").hex())


def _references(text: str) -> tuple[StorePath, ...]:
    names = text.split(" ") if text else []
    if len(names) > MAX_REFERENCES or any(count > 1 for count in Counter(names).values()):
        raise ValueError(f"more than {MAX_REFERENCES} paths, or one twice")
    return tuple(sorted(StorePath.parse(f"{STORE_DIR}/{name}") for name in names))


def _signature(text: str, problems: list[str]) -> tuple[str, bytes] | None:
    name, _, encoded = text.partition(":")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 64 or not name:
        problems.append(f"Sig: not name:base64 of 64 bytes: {text[:80]!r}")
        return None
    return name, raw


#: Bytes of an answer to a question; a larger one is none.
_MAX_NARINFO: Final = 1 << 20
#: Questions of one build.
MAX_ASKED: Final = 20_000
#: What a cache answers that hasn't got it; 403 is how some object stores say so.
_MISSES: Final = frozenset({403, 404, 410})


class Outcome(StrEnum):
    """What came of a question."""

    FOUND = "found"
    MISSED = "missed"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CacheQuery:
    """One question to one cache, for the record; `why` is said when nothing came of it."""

    hash: str
    cache: str
    outcome: Outcome
    why: str = ""


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
    """The caches of the configuration, in its order, for one build; safe for many threads. A context manager."""

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
        self._asked: list[CacheQuery] = []
        self._answers: dict[str, CachedPath | MvmnixError | None] = {}
        self._down: dict[str, DownloadError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut what still runs, and let the connections go."""
        self._opened.close()

    def rest(self) -> None:
        """End the workers, until there is another question."""
        for downloader in self._downloaders.values():
            downloader.lanes.rest()

    @property
    def asked(self) -> tuple[CacheQuery, ...]:
        """Every question so far."""
        with self._lock:
            return tuple(self._asked)

    def find(self, hash_part: str) -> CachedPath | None:
        """What the first cache has that has the path with this hash, signed; None when all say that they haven't.

        Raises RefusedError [cache-malformed, cache-signature, fetch-limit …] when what some say doesn't count and no
        other has it, and MvmnixError when some could not be asked.
        """
        with self._lock:
            known = hash_part in self._answers
            answer = self._answers.get(hash_part)
        if not known:
            answer = self._ask(hash_part)
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

    def _ask(self, hash_part: str) -> CachedPath | MvmnixError | None:
        StorePath(hash_part, "x")  # nothing but a hash goes out
        problems: list[MvmnixError] = []
        for rule in self._rules:
            try:
                found = self._ask_one(rule, hash_part)
            except MvmnixError as error:
                refused = isinstance(error, RefusedError)
                self._record(hash_part, rule, Outcome.REFUSED if refused else Outcome.FAILED, error.message)
                problems.append(error)
                continue
            self._record(hash_part, rule, Outcome.MISSED if found is None else Outcome.FOUND)
            if found is not None:
                return found
        return _joined(problems)

    def _record(self, hash_part: str, rule: CacheRule, outcome: Outcome, why: str = "") -> None:
        with self._lock:
            self._asked.append(CacheQuery(hash_part, rule.url, outcome, why))

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
            raise error.refused(ReasonCode.CACHE_MALFORMED, url, "look at that cache; docs/fetching.md") from error
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
            count, down = len(self._asked), self._down.get(rule.url)
        if down is not None:  # it was asked often enough to know
            raise down
        if count >= MAX_ASKED:
            why, hint = f"this build has asked the caches {count} times", "build in parts, or look at what it asks for"
            raise refuse(ReasonCode.FETCH_LIMIT, rule.url, why, hint)

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


def _joined(problems: Sequence[MvmnixError]) -> MvmnixError | None:
    """What to say when no cache has it: what was refused, or else that some could not be asked, or nothing."""
    reasons: list[Reason] = [reason for one in problems if isinstance(one, RefusedError) for reason in one.reasons]
    if reasons:
        return RefusedError(*reasons)
    return problems[0] if problems else None


def _origin(rule: CacheRule) -> Allowlist:
    """A cache is reached at its own origin and nowhere else, whatever it redirects to."""
    scheme, _, rest = rule.url.partition("://")
    place = rest.partition("/")[0]
    if rule.is_local:
        return Allowlist(frozenset(), frozenset({f"{scheme}://{place}"}))
    return Allowlist(frozenset({place}))
