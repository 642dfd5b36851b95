"""Connections that the guest opens to a forwarded port: their two flows, and the services that answer on the host."""

from collections.abc import Callable
from typing import Protocol

from mvmnix.launch.agent.encoding import ChannelError, ChannelProtocolError
from mvmnix.launch.agent.frames import Frame, FrameKind
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.stream_frames import Data, Eof, Inbound, Outbound, Outlet, Reset, Window


class StreamRefusedError(ChannelError):
    """A service will have no more of this connection; raised by handlers, it breaks off that connection only."""


class Handler(Protocol):
    """A service's end of one connection; calls come from one thread, and none comes after `reset`."""

    def data(self, data: bytes) -> None:
        """The guest sent bytes, never none of them."""

    def eof(self) -> None:
        """The guest sends no more; it may still read."""

    def pull(self, limit: int) -> bytes | None:
        """At most `limit` bytes for the guest; none when there are none now, None when there are no more.

        Asked after `data`, `eof`, `wake`, and as the guest reads. Received bytes are credited back to the guest only
        when there is nothing more to pull, so that a guest that doesn't read can't make us remember more than a window.
        """

    def reset(self) -> None:
        """The connection was broken off, by the guest, by `StreamRefusedError` or with the channel."""


type ServiceFactory = Callable[[Callable[[], None]], Handler]


class Connection:
    """One connection; `closed` when both flows ended or both sides know that it was broken off."""

    def __init__(self, outlet: Outlet, stream: int, factory: ServiceFactory, refused: Callable[[], None]) -> None:
        """`refused` is told that the service will have no more of it."""
        self.stream = stream
        self.closed = False
        self._outlet = outlet
        self._refused = refused
        self._inbound = Inbound(outlet, stream=stream, flow=FrameKind.DATA)
        self._outbound = Outbound()
        self._held = 0
        self._got_eof = self._sent_eof = self._sent_reset = False
        self._handler: Handler | None = factory(self._wake)
        self._wake()

    def received(self, frame: Frame) -> None:
        """A frame of this stream came. Raises ChannelProtocolError."""
        match frame:
            case Data() if not self._got_eof:
                self._data(frame.data)
            case Eof() if not self._got_eof:
                self._got_eof = True
                self._guarded(lambda handler: handler.eof())
                self._settle()
            case Window():
                self._outbound.granted(frame)
            case Reset():
                self._broken_off()
            case _:
                raise ChannelProtocolError(f"a {frame.KIND.name} frame out of order on stream {self.stream}")
        self._wake()

    def produce(self) -> Frame | None:
        """The next frame for the guest, if there is any and the guest has room."""
        if self._handler is None or self._sent_eof or self._outbound.credit == 0:
            return None
        limit = min(self._outbound.credit, MAX_PAYLOAD)
        pulled: list[bytes | None] = []
        self._guarded(lambda handler: pulled.append(handler.pull(limit)))
        if not pulled:
            return None
        data = pulled[0]
        if not data:
            self._give_credit()
        if data is None:
            self._sent_eof = True
            self._settle()
            return Eof(self.stream)
        self._outbound.spent(len(data))
        return Data(self.stream, data) if data else None

    def abandon(self) -> None:
        """The channel ended."""
        self._drop_handler()
        self.closed = True

    def _data(self, data: bytes) -> None:
        self._inbound.received(len(data))
        self._held += len(data)
        self._guarded(lambda handler: handler.data(data))
        if self._sent_eof:
            self._give_credit()

    def _give_credit(self) -> None:
        held, self._held = self._held, 0
        self._inbound.consumed(held)

    def _guarded(self, call: Callable[[Handler], None]) -> None:
        """Let the handler act; its refusal breaks off this connection and nothing else."""
        if self._handler is None:
            return
        try:
            call(self._handler)
        except StreamRefusedError:
            self._refused()
            self._drop_handler()
            self._sent_reset = True
            self._outlet.send(Reset(self.stream))

    def _broken_off(self) -> None:
        if not self._sent_reset:
            self._outlet.send(Reset(self.stream))
        self._drop_handler()
        self.closed = True

    def _settle(self) -> None:
        """Both flows have ended: the handler knows, and neither side sends more."""
        if self._got_eof and self._sent_eof:
            self._handler = None
            self.closed = True

    def _drop_handler(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.reset()

    def _wake(self) -> None:
        if self._handler is not None:
            self._outlet.want(self.stream)
