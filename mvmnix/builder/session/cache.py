"""Answers the builder's questions: Nix's binary-cache protocol over one stream, by hash, from a closed list of offers.

Nix manual, "Store Types: HTTP Binary Cache Store". No file is opened and no connection made here; an offer knows
how to read its own bytes. What the guest sends is hostile: a request is bounded, and nonsense ends the stream.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from mvmnix.model import STORE_DIR, Digest, HashMode, StorePath
from mvmnix.nar import nar_hash

#: Bounds on what a guest may send: bytes of a request's head, requests that wait for an answer.
MAX_HEAD: Final = 8192
MAX_WAITING: Final = 64
#: So many paths asked for in vain are remembered; a build asks for one per derivation at most (graph.py).
MAX_MISSED: Final = 1 << 16

_REQUEST: Final = re.compile(rb"(GET|HEAD) /([a-z0-9./-]{1,128}) HTTP/1\.1")
_NARINFO: Final = re.compile(r"([0-9a-z]{32})\.narinfo")
_NAR: Final = re.compile(r"nar/([0-9a-z]{32})\.nar")
_INFO: Final = f"StoreDir: {STORE_DIR}\nWantMassQuery: 1\nPriority: 30\n".encode()


@dataclass(frozen=True, slots=True)
class Offer:
    """A path that the builder may have, addressed by content, without references; `archive` reads its NAR, hashed."""

    path: StorePath
    digest: Digest
    mode: HashMode
    archive: Callable[[], Iterable[bytes]]

    @property
    def address(self) -> str:
        """Its content address (narinfo field CA)."""
        return f"fixed:{'r:' if self.mode is HashMode.NAR else ''}sha256:{self.digest.nix32}"


@dataclass(slots=True)
class Ledger:
    """What the builder was offered, what it was given, and what it asked for in vain; one for a build."""

    offers: dict[str, Offer] = field(default_factory=dict)
    given: dict[str, Offer] = field(default_factory=dict)
    missed: set[str] = field(default_factory=set)
    _sizes: dict[str, tuple[Digest, int]] = field(default_factory=dict)

    def offer(self, offers: Iterable[Offer]) -> None:
        """Let these paths be asked for."""
        self.offers.update((offer.path.hash, offer) for offer in offers)

    def narinfo(self, name: str) -> bytes | None:
        """The narinfo of an offer (Nix manual, "narinfo"), None for a miss, which is final."""
        offer = self.offers.get(name)
        if offer is None:
            if len(self.missed) < MAX_MISSED:
                self.missed.add(name)
            return None
        if name not in self._sizes:
            self._sizes[name] = nar_hash(offer.archive())
        digest, size = self._sizes[name]
        return (
            f"StorePath: {offer.path}\nURL: nar/{name}.nar\nCompression: none\nNarHash: sha256:{digest.nix32}\n"
            f"NarSize: {size}\nReferences: \nCA: {offer.address}\n"
        ).encode()

    def archive(self, name: str) -> tuple[int, Iterable[bytes]] | None:
        """Size and bytes of an offer's NAR, once its narinfo was read; from here on it counts as given."""
        if name not in self.offers or name not in self._sizes:
            return None
        offer = self.offers[name]
        self.given[name] = offer
        return self._sizes[name][1], offer.archive()


class Connection:
    """The host's end of one connection from the builder: bytes in, bytes out (HTTP/1.1, RFC 9112), no socket."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._head = bytearray()
        self._answers: deque[Iterator[bytes]] = deque()
        self._rest = memoryview(b"")
        self._last = False

    def data(self, data: bytes) -> None:
        """The builder sent bytes; once the stream was given up, they count for nothing and nothing is kept of them."""
        if self._last:
            return
        self._head += data
        while (end := self._head.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._head[:end])
            del self._head[: end + 4]
            self._request(head)
        if len(self._head) > MAX_HEAD:
            self._give_up(b"431 Request Header Fields Too Large")

    def eof(self) -> None:
        """The builder sends no more; what it asked for is still answered."""
        self._last = True

    def pull(self, limit: int) -> bytes | None:
        """At most `limit` bytes of answers; b"" when there are none now, None when there will be no more."""
        while not self._rest and self._answers:
            chunk = next(self._answers[0], None)
            if chunk is None:
                self._answers.popleft()
            else:
                self._rest = memoryview(chunk)
        if not self._rest and self._last:
            return None
        piece, self._rest = bytes(self._rest[:limit]), self._rest[limit:]
        return piece

    def reset(self) -> None:
        """The connection was broken off."""
        self._answers.clear()
        self._rest = memoryview(b"")

    def _request(self, head: bytes) -> None:
        line = head.split(b"\r\n", 1)[0]
        match = _REQUEST.fullmatch(line)
        if match is None or len(head) > MAX_HEAD or len(self._answers) >= MAX_WAITING:
            self._give_up(b"400 Bad Request")
            return
        size, body = self._find(match[2].decode()) or (None, ())
        status = b"404 Not Found" if size is None else b"200 OK"
        self._answer(status, size or 0, () if match[1] == b"HEAD" else body)

    def _find(self, path: str) -> tuple[int, Iterable[bytes]] | None:
        if path == "nix-cache-info":
            return len(_INFO), (_INFO,)
        if wanted := _NARINFO.fullmatch(path):
            text = self._ledger.narinfo(wanted[1])
            return None if text is None else (len(text), (text,))
        if wanted := _NAR.fullmatch(path):
            return self._ledger.archive(wanted[1])
        return None

    def _answer(self, status: bytes, size: int, body: Iterable[bytes]) -> None:
        def parts() -> Iterator[bytes]:
            yield b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, size)
            yield from body

        self._answers.append(parts())

    def _give_up(self, status: bytes) -> None:
        self._answer(status, 0, ())
        self._head.clear()
        self._last = True
