"""A hypervisor's process and the three conversations with it, wired to a loop; knows no plan and writes no file.

Callbacks here never raise. Whatever goes wrong ends the process; with it the channel ends, and whoever waits for the
guest hears that from the channel, after all that the guest said before.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from mvmnix.launch.channel import Channel
from mvmnix.launch.hypervisor import Hypervisor, Invocation, LaunchSpec, Monitor, MonitorEvent
from mvmnix.launch.hypervisor_process import HypervisorProcess
from mvmnix.launch.loop import Loop
from mvmnix.launch.services import ServiceFactory

_CHUNK = 65536
#: Seconds after the hypervisor's death within which the kernel delivers what is left in its sockets.
_AFTERMATH = 5.0

type ConsoleSink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class _Sockets:
    """Three connected pairs; nothing of them has a name that another process could reach."""

    channel: tuple[socket.socket, socket.socket]
    console: tuple[socket.socket, socket.socket]
    monitor: tuple[socket.socket, socket.socket]

    @classmethod
    def make(cls) -> Self:
        return cls(socket.socketpair(), socket.socketpair(), socket.socketpair())

    def close(self, side: int) -> None:
        for pair in (self.channel, self.console, self.monitor):
            pair[side].close()


class Preparation:
    """A guest that is all there but not started: its arguments are known, so that they can be recorded first."""

    def __init__(self, hypervisor: Hypervisor, sketch: LaunchSpec) -> None:
        """`sketch` is complete but for the three sockets, which are made here."""
        self._hypervisor = hypervisor
        self._sockets = _Sockets.make()
        self._spec = replace(
            sketch,
            channel=self._sockets.channel[1].fileno(),
            console=self._sockets.console[1].fileno(),
            monitor=self._sockets.monitor[1].fileno(),
        )
        self.invocation: Invocation = hypervisor.invocation(self._spec)

    def spawn(self, loop: Loop, *, console: ConsoleSink, services: Mapping[int, ServiceFactory]) -> "Guest":
        """Start it, from the thread that will live as long. Raises ProcessError; the sockets are gone either way."""
        monitor = self._hypervisor.monitor()
        try:
            # it waits in the socket until the hypervisor reads it, so that nobody has to wait for a greeting
            self._sockets.monitor[0].sendall(monitor.greeting())
            process = HypervisorProcess.spawn(self.invocation, self._spec.descriptors)
        except BaseException:
            self.discard()
            raise
        self._sockets.close(1)
        return Guest(loop, process, monitor, self._sockets, console=console, services=services)

    def discard(self) -> None:
        """Let go of the sockets of a guest that will not be started."""
        self._sockets.close(0)
        self._sockets.close(1)


class Guest:
    """A running hypervisor. `channel` speaks to its agent; `events` are what its monitor said so far."""

    def __init__(
        self,
        loop: Loop,
        process: HypervisorProcess,
        monitor: Monitor,
        sockets: _Sockets,
        *,
        console: ConsoleSink,
        services: Mapping[int, ServiceFactory],
    ) -> None:
        """Made by `Preparation.spawn` only."""
        self.process = process
        self.events: list[MonitorEvent] = []
        self.channel = Channel(sockets.channel[0], loop, services=services)
        self.console_bytes = 0
        self._loop = loop
        self._monitor = monitor
        self._console = console
        self._sockets = (sockets.console[0], sockets.monitor[0])
        for connection in self._sockets:
            connection.setblocking(False)
        loop.watch(self._sockets[0].fileno(), read=self._console_readable)
        loop.watch(self._sockets[1].fileno(), read=self._monitor_readable)
        loop.watch(process.words, read=self._words_readable)
        loop.watch(process.fileno(), read=self._process_ended)

    @property
    def progress(self) -> int:
        """Grows with everything that the guest says."""
        return self.console_bytes + self.channel.bytes_received + len(self.events)

    def settle(self, seconds: float) -> None:
        """Let the guest end by itself for so long at most, reading all that it and its hypervisor still say."""
        expired: list[None] = []
        timer = self._loop.after(seconds, lambda: expired.append(None))
        while not expired and not self.process.ended:
            self._loop.turn()
        timer.cancel()

    def kill(self) -> None:
        """End the hypervisor now."""
        self.process.kill()

    def close(self) -> None:
        """End it, take in what is left in its sockets, and let go of everything. A second call does nothing."""
        self.process.kill()
        self._drain(self._sockets[0], self._take_console)
        self._drain(self._sockets[1], self._take_monitor)
        self._forget(self.process.fileno())
        self._forget(self.process.words)
        self.process.close()
        self.channel.close()
        for connection in self._sockets:
            self._forget(connection.fileno())
            connection.close()

    def _forget(self, fd: int) -> None:
        if fd >= 0:
            self._loop.forget(fd)

    def _drain(self, connection: socket.socket, take: Callable[[bytes], None]) -> None:
        """Everything that a dead hypervisor left in a socket."""
        while connection.fileno() >= 0 and (data := self._read(connection)):
            take(data)

    def _read(self, connection: socket.socket) -> bytes | None:
        """What waits in a socket; None when nothing does yet. An end of it is forgotten by the loop."""
        try:
            data = connection.recv(_CHUNK)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        if not data:
            self._loop.forget(connection.fileno())
        return data

    def _console_readable(self) -> None:
        if data := self._read(self._sockets[0]):
            self._take_console(data)

    def _take_console(self, data: bytes) -> None:
        self.console_bytes += len(data)
        self._console(data)

    def _monitor_readable(self) -> None:
        if data := self._read(self._sockets[1]):
            self._take_monitor(data)

    def _take_monitor(self, data: bytes) -> None:
        try:
            events = self._monitor.received(data)
        except ValueError:
            events = (MonitorEvent.INTERNAL_ERROR,)
        self.events.extend(events)
        if MonitorEvent.INTERNAL_ERROR in events:
            self.kill()  # QEMU would stand still for ever

    def _words_readable(self) -> None:
        if not self.process.listen():
            self._loop.forget(self.process.words)

    def _process_ended(self) -> None:
        """The channel ends by itself, once all that the guest said was read; the timer is for what can't happen."""
        self._loop.forget(self.process.fileno())
        self._loop.after(_AFTERMATH, self.channel.close)
