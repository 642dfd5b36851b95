"""Relays a connection that the guest opens to a forwarded port to the caller, as a stream socket of its own."""

import socket
from collections.abc import Callable
from typing import Final

from mvmnix.launch.agent.port_forward import StreamRefusedError
from mvmnix.launcher.conversation import Conversation
from mvmnix.system.loop import Loop

#: Bytes that wait for a caller that doesn't read; beyond them its connection is broken off.
_MOST_PENDING: Final = 4 << 20


class GuestRelay:
    """The guest's end of one connection (launch/agent/port_forward.py, Handler); the caller has the socket's other end.

    Raises StreamRefusedError where the caller takes no connection, or reads nothing of it.
    """

    def __init__(self, conversation: Conversation, loop: Loop, port: int, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._pending = bytearray()
        self._is_guest_done = self._is_caller_done = False
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        with theirs:
            self._is_refused = not conversation.guest_connected(port, theirs.fileno())
        self._watch()

    def data(self, data: bytes) -> None:
        """Send bytes of the guest's on."""
        if self._is_refused or len(self._pending) > _MOST_PENDING:
            raise StreamRefusedError("the caller does not serve this connection")
        self._pending += data
        self._flush()

    def eof(self) -> None:
        """The guest sends no more."""
        self._is_guest_done = True
        self._flush()

    def pull(self, limit: int) -> bytes | None:
        """Return what the caller sent; b"" where there is nothing now, None when it sends no more."""
        if self._ours.fileno() < 0 or self._is_refused:
            return None
        try:
            data = self._ours.recv(limit)
        except BlockingIOError:
            self._watch()
            return b""
        except OSError:
            data = b""
        if not data:
            self._is_caller_done = True
            self._close_when_done()
            return None
        return data

    def reset(self) -> None:
        """The connection was broken off."""
        if self._ours.fileno() >= 0:
            self._loop.forget(self._ours.fileno())
            self._ours.close()

    def _flush(self) -> None:
        try:
            while self._pending:
                del self._pending[: self._ours.send(self._pending)]
            if self._is_guest_done:
                self._ours.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self._watch()
            return
        except OSError:
            self._pending.clear()
            self._is_refused = True
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._is_guest_done and self._is_caller_done and not self._pending:
            self.reset()

    def _watch(self) -> None:
        if self._ours.fileno() >= 0:
            write = self._writable if self._pending else None
            self._loop.watch(self._ours.fileno(), read=self._readable, write=write)

    def _readable(self) -> None:
        self._loop.watch(self._ours.fileno(), write=self._writable if self._pending else None)
        self._wake()

    def _writable(self) -> None:
        self._flush()
        if self._ours.fileno() >= 0 and not self._pending:
            self._loop.watch(self._ours.fileno(), read=self._readable)
