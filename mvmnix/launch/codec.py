"""Turns frames into bytes and bytes from an untrusted peer into frames, in bounded memory; no I/O."""

import struct
from collections.abc import Iterator, Mapping

from mvmnix.launch.frames import Bye, Config, Failed, Frame, Hello, Kind, Ping, Pong, Ready, Shutdown
from mvmnix.launch.requests import MAX_PAYLOAD
from mvmnix.launch.stream_frames import (
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
from mvmnix.launch.wire import ChannelProtocolError

_HEADER = struct.Struct(">BBHII")
HEADER_BYTES = _HEADER.size
MAX_FRAME_BYTES = HEADER_BYTES + MAX_PAYLOAD

type FrameTypes = Mapping[int, type[Frame]]


def _table(*types: type[Frame]) -> FrameTypes:
    return {kind.KIND: kind for kind in types}


#: What a guest may say, and what a host may say; everything else is refused by the decoder.
FROM_GUEST = _table(
    *(Hello, Ready, Failed, Started, Stdout, Stderr, Exit, Open, Data, Eof, Reset, Window, Pong, Bye),
)
FROM_HOST = _table(Config, Run, Exec, Stdin, Signal, Data, Eof, Reset, Window, Ping, Shutdown)


def encode(frame: Frame) -> bytes:
    """A frame's bytes: type, flags (0), reserved (0), stream, length, payload. Raises ValueError for a long payload."""
    payload = frame.payload()
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a {frame.KIND.name} frame holds at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return _HEADER.pack(frame.KIND, 0, 0, frame.stream, len(payload)) + payload


class FrameDecoder:
    """Takes bytes in any portions, gives frames of the types in `accepts`; holds less than one frame in memory."""

    def __init__(self, accepts: FrameTypes) -> None:
        self._accepts = accepts
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete, one by one. Raises ChannelProtocolError; feed nothing after that."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= HEADER_BYTES:
                cls, stream, length = self._header(start)
                end = start + HEADER_BYTES + length
                if len(self._buffer) < end:
                    break
                payload = bytes(memoryview(self._buffer)[start + HEADER_BYTES : end])
                start = end
                yield cls.parse(stream, payload)
        finally:
            del self._buffer[:start]

    def _header(self, start: int) -> tuple[type[Frame], int, int]:
        kind, flags, reserved, stream, length = _HEADER.unpack_from(self._buffer, start)
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
