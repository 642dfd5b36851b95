"""Decides what counts of what a binary cache says of a store path, and whose word; no file, no network.

The download worker takes the text apart (worker/documents.py); what it gives are names and values.

Nix manual, "narinfo" and "Signatures"; nix: libstore/nar-info.cc and path-info.cc (ValidPathInfo::fingerprint).

1. Each field that counts stands there once and is well formed.
2. The archive lies below the cache's own address.
3. A key that is listed for this cache has signed StorePath, NarHash, NarSize and References. Nothing else is covered,
   so nothing else is trusted: Deriver, System, FileHash and FileSize are not read, a `CA:` field is no signature.
"""

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mvmnix.builder.fetch.worker.packets import Compression
from mvmnix.config import CacheKey
from mvmnix.digest import NIX32, Digest
from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats.strict import MalformedError
from mvmnix.model import STORE_DIR, StorePath

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

    def read[T](name: str, parse_it: Callable[[str], T], stand_in: T) -> T:
        (value,) = fields[name]
        try:
            return parse_it(value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            return stand_in

    signatures = tuple(signature for text in fields.get("Sig", ()) if (signature := _signature(text, problems)))
    fields.setdefault("Compression", ["bzip2"])  # as Nix takes it (nar-info.cc)
    info = NarInfo(
        path=read("StorePath", StorePath.parse, StorePath("0" * 32, "x")),
        url=read("URL", _url, ""),
        compression=read("Compression", _compression, Compression.NONE),
        nar=read("NarHash", _digest, Digest("0" * 64)),
        size=read("NarSize", _size, 0),
        references=read("References", _references, ()),
        signatures=signatures,
    )
    if problems:
        raise MalformedError(*problems)
    return info


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
