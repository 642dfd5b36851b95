"""A caller's end of a connection to a launcher or a supervisor: packets out and in, as steps of a conversation."""

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from mvmnix.errors import MvmnixError
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.drivers import Steps, Wait
from mvmnix.system.descriptors import Packet, PacketError, receive_packet, send_packet

_LOST = "mvm ps --all says what became of the machine"


class ConnectionLostError(MvmnixError):
    """The other process has ended, does not begin, or can't be understood."""


class UnansweredError(ConnectionLostError):
    """The other process is there, and hasn't answered within the time that it had."""


class Connection:
    """Takes over a connected socket; a context manager. What it receives may bring at most one descriptor."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is a packet; -1 once it is closed."""
        return self._end.fileno()

    def send(self, message: object, descriptors: Iterable[int] = ()) -> Steps[None]:
        """Send a message; the descriptors stay the caller's.

        Raises ValueError for one that is too long, ConnectionLostError.
        """
        data, passed = encode(message), tuple(descriptors)
        while True:
            try:
                send_packet(self._end, data, passed)
            except BlockingIOError:
                yield Wait(write=(self.fileno(),))
            except OSError as error:
                raise ConnectionLostError(
                    f"the machine's process can't be written to: {error.strerror}", hint=_LOST
                ) from error
            else:
                return

    def tell(self, message: object) -> None:
        """Send a short message that changes nothing where the other end is gone, or reads nothing."""
        try:
            send_packet(self._end, encode(message))
        except OSError:
            return

    def receive(self, seconds: float | None = None) -> Steps[Packet]:
        """Wait for the next packet. Raises ConnectionLostError at its end, UnansweredError after so many seconds."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                packet = self.next_packet()
            except BlockingIOError:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    why = f"the machine's process hasn't answered for {seconds} seconds"
                    raise UnansweredError(why, hint=_LOST) from None
                yield Wait(read=(self.fileno(),), seconds=left)
            else:
                return packet

    def next_packet(self) -> Packet:
        """Return the packet that is there.

        Raises BlockingIOError where there is none, ConnectionLostError at the connection's end.
        """
        try:
            packet = receive_packet(self._end, LIMIT, 1)
        except BlockingIOError:
            raise
        except ConnectionResetError:  # it left without having read all that was said, but may have answered before
            packet = self._last()
        except (PacketError, OSError) as error:
            raise ConnectionLostError(f"the machine's process can't be read from: {error}", hint=_LOST) from error
        if not packet.data:
            packet.close()
            raise ConnectionLostError("the machine's process ended without an answer", hint=_LOST)
        return packet

    def _last(self) -> Packet:
        try:
            return receive_packet(self._end, LIMIT, 1)
        except (PacketError, OSError):
            return Packet(b"", ())

    def shut_down(self) -> None:
        """Hang up, but keep the descriptor: a wait for it ends. Another thread may call this."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self._end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
