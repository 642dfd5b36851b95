"""Tells the supervisor what became of a guest's connections and questions, in order; it may be slow."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from mvmnix.network.supervisor_messages import NetworkEvent

#: Events that the supervisor hasn't read.
_EVENTS: Final = 4096
#: Seconds for which events are gathered.
_GATHER: Final = 0.01


class Events:
    """What the supervisor is told, in order; it may be slow, and then the gateway accepts nothing more.

    Events are gathered for a moment, so that the guest's connections don't wait for their telling.
    """

    def __init__(self, end: socket.socket, gone: Callable[[], None]) -> None:
        self._end, self._gone = end, gone
        self._waiting: list[NetworkEvent] = []
        self._gathers = self._writes = False
        self._room, self._told = asyncio.Event(), asyncio.Event()
        self._room.set()

    def tell(self, event: NetworkEvent) -> None:
        """Send it, or keep it until that is possible."""
        self._waiting.append(event)
        if not self._gathers and not self._writes:
            self._gathers = True
            asyncio.get_running_loop().call_later(_GATHER, self.flush)
        if len(self._waiting) >= _EVENTS:
            self._room.clear()

    def flush(self) -> None:
        """Send what was gathered, as far as it is taken now."""
        self._gathers = False
        loop, fd = asyncio.get_running_loop(), self._end.fileno()
        sent = 0
        try:
            for event in self._waiting:
                self._end.send(event.to_bytes(), socket.MSG_DONTWAIT)
                sent += 1
        except BlockingIOError:
            if not self._writes:
                self._writes = True
                loop.add_writer(fd, self.flush)
        except OSError:
            self._told.set()
            self._gone()
            return
        del self._waiting[:sent]
        if not self._waiting:
            self._told.set()
            if self._writes:
                self._writes = False
                loop.remove_writer(fd)
        if len(self._waiting) < _EVENTS:
            self._room.set()

    @property
    def has_room(self) -> bool:
        """Whether the supervisor reads what it is told."""
        return self._room.is_set()

    async def room(self) -> None:
        """Wait until the supervisor has read some."""
        await self._room.wait()

    async def all_told(self) -> None:
        """Wait until it has been sent all of them."""
        self._told.clear()
        self.flush()
        await self._told.wait()
