"""Has the download worker unpack streams and take documents apart, and validates what comes of it.

1. A stream is unpacked by a lane of its own, into no more bytes than were promised: they are counted here.
2. A document becomes texts, so many bytes in all. What each text has to be is its caller's to look at.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Self

from mvmnix.builder.fetch.lanes import Lane, Lanes, lied
from mvmnix.builder.fetch.resumable import BrokenError, DownloadError
from mvmnix.builder.fetch.worker.packets import PIECE_BYTES, Compression, Document, PacketKind, Work, one_line, unpack
from mvmnix.formats.strict import MalformedError

_HINT: Final = "try it again; it may be a mistake of mvm's, or a server that has broken its worker"
#: Texts of a document have no more bytes in all than this and twice its size.
_SLACK: Final = 1 << 20
#: Levels of a value (strict.py).
_DEPTH: Final = 32
_INTEGER: Final = re.compile(r"-?[0-9]{1,16}")
_WORDS: Final = {"t": True, "f": False, "n": None}
_COUNT: Final = re.compile(r"[0-9]{1,6}")


class Expander:
    """Feed it a packed stream, get what was packed, at most `limit` bytes in all. One stream, nothing behind it.

    A context manager.
    """

    def __init__(self, lanes: Lanes, compression: Compression, limit: int) -> None:
        self._lanes, self._left = lanes, limit
        self._lane = None
        if compression is not Compression.NONE:
            try:
                self._lane = lanes.take(None, Work.EXPAND, compression.encode(), str(limit).encode())
            except BrokenError as error:
                raise _failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lane is not None:
            self._lanes.drop(self._lane)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of these bytes. Raises MalformedError when it is too much, or isn't of that kind."""
        if self._lane is None:
            yield self._counted(data)
            return
        for start in range(0, len(data), PIECE_BYTES):
            yield from self._exchange(PacketKind.DATA, data[start : start + PIECE_BYTES])

    def close(self) -> None:
        """The packed stream has ended. Raises MalformedError when it is not complete."""
        for _ in self._exchange(PacketKind.END) if self._lane is not None else ():
            raise lied("bytes behind the end of a stream")

    def _exchange(self, kind: PacketKind, data: bytes = b"") -> Iterator[bytes]:
        if self._lane is None:
            return
        try:
            self._lane.send(kind, data)
            while True:
                answer, content = self._lane.receive()
                if answer is PacketKind.MALFORMED:
                    raise MalformedError(_words(content))
                if answer is (PacketKind.END if kind is PacketKind.END else PacketKind.NEXT):
                    return
                if answer is not PacketKind.DATA or not content:
                    raise lied("something else than a stream")
                yield self._counted(bytes(content))
        except BrokenError as error:
            raise _failed(error) from error

    def _counted(self, out: bytes) -> bytes:
        # 1. so many bytes
        self._left -= len(out)
        if self._left < 0:
            raise MalformedError("it unpacks to more bytes than it may")
        return out


def expand(lanes: Lanes, compression: Compression, chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """All that was packed into these chunks; raises as Expander does."""
    with Expander(lanes, compression, limit) as expander:
        for chunk in chunks:
            yield from expander.feed(chunk)
        expander.close()


def document_texts(lanes: Lanes, document: Document, data: bytes) -> tuple[str, ...]:
    """What a document consists of (worker/documents.py). Raises MalformedError, DownloadError."""
    lane, found = None, None
    try:
        lane = lanes.take(document, Work.READ, document.value)
        lane.send_all(data)
        found = _texts(lane, 2 * len(data) + _SLACK)
    except BrokenError as error:
        raise _failed(error) from error
    finally:
        # what one registry or forge gave, a token, is no other's to see
        if lane is not None and found is not None and document is Document.NARINFO:
            lanes.give_back(lane)
        elif lane is not None:
            lanes.drop(lane)
    return found


def json_value(lanes: Lanes, data: bytes) -> object:
    """The value of a document in JSON; no duplicate names, no numbers but integers. Raises as for texts."""
    left = iter(document_texts(lanes, Document.JSON, data))
    try:
        value = _value(left, _DEPTH)
    except StopIteration as error:
        raise lied("a value that is cut off") from error
    if next(left, None) is not None:
        raise lied("more than one value")
    return value


def _value(left: Iterator[str], depth: int) -> object:
    """What the next texts are (worker/documents.py, json_texts)."""
    text = next(left)
    kind, rest = text[:1], text[1:]
    if depth >= 0:
        match kind:
            case "s":
                return rest
            case "i" if _INTEGER.fullmatch(rest):
                return int(rest)
            case "[" if _COUNT.fullmatch(rest):
                return [_value(left, depth - 1) for _ in range(int(rest))]
            case "{" if _COUNT.fullmatch(rest):
                named = {next(left): _value(left, depth - 1) for _ in range(int(rest))}
                if len(named) == int(rest):
                    return named
            case _ if text in _WORDS:
                return _WORDS[text]
            case _:
                pass
    raise lied("a malformed value")


def _texts(lane: Lane, limit: int) -> tuple[str, ...]:
    # 2. texts
    said = bytearray()
    kind, content = lane.receive()
    while kind is PacketKind.DATA and len(said) + len(content) <= limit:
        said += content
        kind, content = lane.receive()
    if kind is PacketKind.MALFORMED:
        raise MalformedError(_words(content))
    if kind is not PacketKind.END:
        raise lied("something else than a document's texts")
    return _read(bytes(said))


def _read(said: bytes) -> tuple[str, ...]:
    try:
        return tuple(text.decode() for text in unpack(said))
    except ValueError as error:
        raise lied("malformed texts") from error


def _words(content: memoryview) -> str:
    return one_line(bytes(content).decode(errors="replace"))


def _failed(error: BrokenError) -> DownloadError:
    return DownloadError(str(error), hint=_HINT)
