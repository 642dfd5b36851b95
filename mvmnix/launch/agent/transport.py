"""Turns frames into bytes and an untrusted peer's bytes into frames, and moves both over one non-blocking socket.

All in bounded memory. The bytes are made and read without I/O; the socket is driven by a loop.
"""

import socket
import struct
from collections.abc import Callable, Iterator, Mapping

from mvmnix.launch.agent.encoding import ChannelClosedError, ChannelError, ChannelProtocolError
from mvmnix.launch.agent.frames import (
    Bye,
    Failed,
    Frame,
    FrameKind,
    Frozen,
    Hello,
    NotFrozen,
    Pong,
    Ready,
    Thawed,
)
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.stream_frames import Data, Eof, Exit, Open, Reset, Started, Stderr, Stdout, Window
from mvmnix.system.loop import Loop

#: Frames with bytes are made only while less than this waits to be sent.
_LOW_WATER = 131072
#: A guest that provokes answers and doesn't read them is cut off here.
_HIGH_WATER = 8 * 1024 * 1024
_HEADER = struct.Struct(">BBHII")
HEADER_BYTES = _HEADER.size
MAX_FRAME_BYTES = HEADER_BYTES + MAX_PAYLOAD
#: So many bytes can be received at once, at least.
PORTION = 128 * 1024

#: What a guest may say; everything else is refused by the decoder.
FROM_GUEST: Mapping[int, type[Frame]] = {
    it.KIND: it
    for it in (
        *(Hello, Ready, Failed, Started, Stdout, Stderr, Exit, Open, Data, Eof, Reset, Window, Pong, Bye),
        *(Frozen, NotFrozen, Thawed),
    )
}


def encode(frame: Frame) -> bytes:
    """A frame's bytes: type, flags (0), reserved (0), stream, length, payload. Raises ValueError for a long payload."""
    payload = frame.payload()
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a {frame.KIND.name} frame holds at most {MAX_PAYLOAD} bytes, not {len(payload)}")
    return _HEADER.pack(frame.KIND, 0, 0, frame.stream, len(payload)) + payload


class FrameDecoder:
    """Takes a guest's bytes in any portions, gives its frames; in memory that is made once.

    Bytes are received into `space()`, and `took` says how many; `feed` does both with bytes that are there already.
    """

    def __init__(self) -> None:
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
        cls = FROM_GUEST.get(kind)
        if cls is None:
            name = FrameKind(kind).name if kind in set(FrameKind) else str(kind)
            raise ChannelProtocolError(f"a frame of type {name}, which this side may not send")
        if flags or reserved:
            raise ChannelProtocolError(f"flags {flags:#x} and reserved {reserved:#x} must be zero")
        if length > MAX_PAYLOAD:
            raise ChannelProtocolError(f"a payload of {length} bytes, where {MAX_PAYLOAD} are allowed")
        if not cls.carries(stream):
            raise ChannelProtocolError(f"a {cls.KIND.name} frame for stream {stream}")
        return cls, stream, length


class Transport:
    """A socket, the frames that wait to be sent, and the bytes of a frame that isn't complete."""

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        *,
        received: Callable[[Frame], None],
        produce: Callable[[], Frame | None],
        ended: Callable[[ChannelError], None],
    ) -> None:
        sock.setblocking(False)
        self.bytes_received = self.bytes_sent = 0
        self._socket = sock
        self._loop = loop
        self._received = received
        self._produce = produce
        self._ended = ended
        self._decoder = FrameDecoder()
        self._out = bytearray()
        self._held: bytearray | None = None
        self._open = True
        self._writing = self._deaf = False
        self._watch()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, frame: Frame, *, ahead: bool = False) -> None:
        """Queue a frame; it leaves when the loop turns, or behind `release` while frames are held, unless `ahead`."""
        if not self._open or self._deaf:
            return
        queue = self._out if self._held is None or ahead else self._held
        queue += encode(frame)
        if len(self._out) + len(self._held or b"") > _HIGH_WATER:
            self._end(ChannelProtocolError(f"it does not read replies; {_HIGH_WATER >> 20} MiB are pending"))
            return
        self.want_write()

    def hold(self) -> None:
        """Hold back frames that are queued from here on, and ask for none with bytes, until `release`."""
        self._held = bytearray()

    def discard_held(self) -> None:
        """Forget the frames that are held back; others go on being so."""
        if self._held:
            self._held.clear()

    def release(self) -> None:
        """Queue what was held back, in its order, and hold no more. Without effect where nothing is held."""
        if self._held is not None:
            self._out += self._held
            self._held = None
            self.want_write()

    def want_write(self) -> None:
        """There is something to send: ask for it when the socket takes bytes."""
        if self._held is not None and not self._out:
            return
        if self._open and not self._deaf and not self._writing:
            self._writing = True
            self._watch()

    def close(self) -> None:
        """Let go of the socket."""
        if self._open:
            self._open = False
            self._out.clear()
            self.discard_held()
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def _watch(self) -> None:
        write = self._on_writable if self._writing else None
        self._loop.watch(self._socket.fileno(), read=self._on_readable, write=write)

    def _end(self, error: ChannelError) -> None:
        self.close()
        self._ended(error)

    def _on_readable(self) -> None:
        try:
            count = self._socket.recv_into(self._decoder.space())
        except BlockingIOError:
            return
        except ConnectionResetError:  # it left without reading our last words
            count = 0
        except OSError as error:
            self._end(ChannelClosedError(f"the channel to the guest failed: {error.strerror}"))
            return
        if not count:
            cut = (
                f", in the middle of a frame of {self._decoder.pending} bytes or more" if self._decoder.pending else ""
            )
            self._end(ChannelClosedError("the guest's end of the channel was closed" + cut))
            return
        self.bytes_received += count
        try:
            for frame in self._decoder.took(count):
                self._received(frame)
                if not self._open:
                    return
        except ChannelProtocolError as error:
            self._end(error)

    def _on_writable(self) -> None:
        while self._held is None and len(self._out) < _LOW_WATER:
            frame = self._produce()
            if not self._open:
                return
            if frame is None:
                break
            self._out += encode(frame)
        try:
            if self._out:
                count = self._socket.send(memoryview(self._out)[:_LOW_WATER])
                del self._out[:count]
                self.bytes_sent += count
        except BlockingIOError:
            return
        except OSError:  # the peer no longer reads; what it sent before that is still to be read, and then its end
            self._out.clear()
            self._deaf = True
        if not self._out:
            self._writing = False
            self._watch()
