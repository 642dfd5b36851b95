"""Counts the credit of one flow of a stream, so that neither side buffers more than a window; no I/O."""

from typing import Protocol

from mvmnix.launch.agent.encoding import ChannelProtocolError
from mvmnix.launch.agent.frames import INITIAL_WINDOW, Frame, Kind, window_of
from mvmnix.launch.agent.stream_frames import Window

#: Credit is returned in so many portions of a window, so that small reads don't cost a frame each.
_PORTIONS = 4


class Outlet(Protocol):
    """Where streams put what they have to say."""

    def send(self, frame: Frame) -> None:
        """Queue a small frame that needs no credit."""

    def want(self, stream: int) -> None:
        """Ask this stream for its next frame with bytes as soon as there is room."""


class Inbound:
    """The flow of a stream on which we receive: the guest may have a window's worth under way."""

    def __init__(self, outlet: Outlet, *, stream: int, flow: Kind) -> None:
        self._outlet = outlet
        self._stream = stream
        self._flow = flow
        self._allowed = window_of(flow)
        self._portion = window_of(flow) // _PORTIONS
        self._consumed = 0

    def received(self, count: int) -> None:
        """So many bytes came. Raises ChannelProtocolError when they were more than granted."""
        if count > self._allowed:
            why = f"{count} bytes on flow {self._flow.name} of stream {self._stream}, {self._allowed} were granted"
            raise ChannelProtocolError(why)
        self._allowed -= count

    def consumed(self, count: int) -> None:
        """So many bytes have left our memory; tells the guest, in portions."""
        self._consumed += count
        if self._consumed >= self._portion:
            credit, self._consumed = self._consumed, 0
            self._allowed += credit
            self._outlet.send(Window(self._stream, self._flow, credit))


class Outbound:
    """The flow of a stream on which we send."""

    def __init__(self) -> None:
        self.credit = INITIAL_WINDOW

    def granted(self, frame: Window) -> None:
        """The guest took bytes. Raises ChannelProtocolError when it grants more than it ever received."""
        if self.credit + frame.credit > INITIAL_WINDOW:
            raise ChannelProtocolError(f"a window of more than {INITIAL_WINDOW} bytes on stream {frame.stream}")
        self.credit += frame.credit

    def spent(self, count: int) -> None:
        """So many bytes were sent. Raises ValueError when a source gave more than it was asked for."""
        if count > self.credit:
            raise ValueError(f"a source gave {count} bytes where {self.credit} were asked for")
        self.credit -= count
