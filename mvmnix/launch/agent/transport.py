"""Moves frames over one non-blocking socket to the guest agent, in bounded memory, driven by a loop."""

import socket
from collections.abc import Callable

from mvmnix.launch.agent.codec import FROM_GUEST, FrameDecoder, encode
from mvmnix.launch.agent.encoding import ChannelClosedError, ChannelError, ChannelProtocolError
from mvmnix.launch.agent.frames import Frame
from mvmnix.launch.loop import Loop

#: Frames with bytes are made only while less than this waits to be sent.
_LOW_WATER = 131072
#: A guest that provokes answers and doesn't read them is cut off here.
_HIGH_WATER = 8 * 1024 * 1024


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
        self._decoder = FrameDecoder(FROM_GUEST)
        self._out = bytearray()
        self._open = True
        self._writing = self._deaf = False
        self._watch()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, frame: Frame) -> None:
        """Queue a frame; it leaves when the loop turns."""
        if not self._open or self._deaf:
            return
        self._out += encode(frame)
        if len(self._out) > _HIGH_WATER:
            self._end(ChannelProtocolError(f"it does not read replies; {_HIGH_WATER >> 20} MiB are pending"))
            return
        self.want_write()

    def want_write(self) -> None:
        """There is something to send: ask for it when the socket takes bytes."""
        if self._open and not self._deaf and not self._writing:
            self._writing = True
            self._watch()

    def close(self) -> None:
        """Let go of the socket."""
        if self._open:
            self._open = False
            self._out.clear()
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
        while len(self._out) < _LOW_WATER:
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
