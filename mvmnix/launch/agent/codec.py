"""Turns frames into bytes and bytes from an untrusted peer into frames, in bounded memory; no I/O."""

import struct
from collections.abc import Iterator, Mapping

from mvmnix.launch.agent.encoding import ChannelProtocolError
from mvmnix.launch.agent.frames import Bye, Config, Failed, Frame, Hello, Kind, Ping, Pong, Ready, Shutdown
from mvmnix.launch.agent.requests import MAX_PAYLOAD
from mvmnix.launch.agent.stream_frames import (
    Data,
    Eof,
    Exec,
    Exit,
    Open,
    Reset,
    Run,
    Signal,
    Started,
    Stderr,
    Stdin,
    Stdout,
    Window,
)
from mvmnix.launch.agent.verbs import Copy, Resize, Shell

_HEADER = struct.Struct(">BBHII")
HEADER_BYTES = _HEADER.size
MAX_FRAME_BYTES = HEADER_BYTES + MAX_PAYLOAD
#: So many bytes can be received at once, at least.
PORTION = 128 * 1024

type FrameTypes = Mapping[int, type[Frame]]


def _table(*types: type[Frame]) -> FrameTypes:
    return {kind.KIND: kind for kind in types}


#: What a guest may say, and what a host may say; everything else is refused by the decoder.
FROM_GUEST = _table(
    *(Hello, Ready, Failed, Started, Stdout, Stderr, Exit, Open, Data, Eof, Reset, Window, Pong, Bye),
)
FROM_HOST = _table(Config, Run, Exec, Stdin, Signal, Data, Eof, Reset, Window, Ping, Shutdown, Resize, Shell, Copy)


def encode(frame: Frame) -> bytes:
    """A frame's bytes: type, flags (0), reserved (0), stream, length, payload. Raises ValueError for a long payload."""
    payload = frame.payload()
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a {frame.KIND.name} frame holds at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return _HEADER.pack(frame.KIND, 0, 0, frame.stream, len(payload)) + payload


class FrameDecoder:
    """Takes bytes in any portions, gives frames of the types in `accepts`; in memory that is made once.

    Bytes are received into `space()`, and `took` says how many; `feed` does both with bytes that are there already.
    """

    def __init__(self, accepts: FrameTypes) -> None:
        self._accepts = accepts
        self._memory = memoryview(bytearray(MAX_FRAME_BYTES + PORTION))
        self._end = 0

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete, less than a whole one."""
        return self._end

    def space(self) -> memoryview:
        """Where the next bytes go, `PORTION` of them or more."""
        return self._memory[self._end :]

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete, one by one. Raises ChannelProtocolError; feed nothing after that."""
        for start in range(0, len(data), PORTION):
            portion = data[start : start + PORTION]
            self.space()[: len(portion)] = portion
            yield from self.took(len(portion))

    def took(self, count: int) -> Iterator[Frame]:
        """The frames that `count` bytes complete, which are in `space()` now; as `feed`."""
        start, self._end = 0, self._end + count
        try:
            while self._end - start >= HEADER_BYTES:
                cls, stream, length = self._header(start)
                end = start + HEADER_BYTES + length
                if self._end < end:
                    break
                payload = bytes(self._memory[start + HEADER_BYTES : end])
                start = end
                yield cls.parse(stream, payload)
        finally:
            rest = self._end - start
            self._memory[:rest] = self._memory[start : self._end]
            self._end = rest

    def _header(self, start: int) -> tuple[type[Frame], int, int]:
        kind, flags, reserved, stream, length = _HEADER.unpack_from(self._memory, start)
        cls = self._accepts.get(kind)
        if cls is None:
            name = Kind(kind).name if kind in set(Kind) else str(kind)
            raise ChannelProtocolError(f"a frame of type {name}, which this side may not send")
        if flags or reserved:
            raise ChannelProtocolError(f"flags {flags:#x} and reserved {reserved:#x} must be zero")
        if length > MAX_PAYLOAD:
            raise ChannelProtocolError(f"a payload of {length} bytes, where {MAX_PAYLOAD} are allowed")
        if not cls.carries(stream):
            raise ChannelProtocolError(f"a {cls.KIND.name} frame for stream {stream}")
        return cls, stream, length
