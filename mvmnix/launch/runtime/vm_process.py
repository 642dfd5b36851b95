"""A hypervisor's process and the three conversations with it, wired to a loop; knows no plan and writes no file.

Callbacks here never raise. Whatever goes wrong ends the process; with it the channel ends, and a caller that waits for
the guest learns that from the channel, after all that the guest said before.
"""

import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from mvmnix.audit.tally import Tally
from mvmnix.errors import MvmnixError
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.encoding import ChannelClosedError
from mvmnix.launch.agent.frames import Hello
from mvmnix.launch.agent.port_forward import ServiceFactory
from mvmnix.launch.agent.requests import GuestConfig
from mvmnix.launch.data.setup import PreparedDisk
from mvmnix.launch.runtime.save_files import SaveFiles
from mvmnix.launch.shares.setup import Shares
from mvmnix.launch.snapshots.restored_guest import RestoredGuest, SnapshotOrigin
from mvmnix.launch.templates.record import TemplateRecord
from mvmnix.launch.templates.template import Template
from mvmnix.network.host.setup import MachineNetwork
from mvmnix.network.supervisor_messages import NetworkEvent
from mvmnix.system.loop import Loop, Timer
from mvmnix.system.process import ProcessError
from mvmnix.vmm.confinement import Jail
from mvmnix.vmm.port import Acceleration, Hypervisor, Invocation, LaunchSpec, Monitor, MonitorEvent
from mvmnix.vmm.process import JailedProcess

_CHUNK = 65536
#: Seconds after the hypervisor's death within which the kernel delivers what is left in its sockets.
_AFTERMATH = 5.0
#: Seconds that a hypervisor gets to tell how its guest stands.
_ANSWERS = 3.0
_DEAF = "end the machine: mvm kill"

type ConsoleSink = Callable[[bytes], None]


def _ignored(_event: MonitorEvent) -> None:
    """For events that no caller waits for."""


def _unheard(_event: NetworkEvent) -> None:
    """For events before the machine is there."""


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

    #: It was no other machine's before (waiting.py).
    waited: Final = None

    def __init__(
        self,
        hypervisor: Hypervisor,
        jail: Jail,
        partial_spec: LaunchSpec,
        shares: Shares | None = None,
        disk: PreparedDisk | None = None,
        *,
        network: MachineNetwork | None = None,
        template: Template | None = None,
        restored: RestoredGuest | None = None,
        files: SaveFiles | None = None,
    ) -> None:
        """`partial_spec` lacks the three sockets, which are made here; its `kvm` is taken over, and all others.

        `template`, or `restored`, is as what the guest begins; into `files` it may be saved. Raises MvmnixError where
        the host has no sandbox for it.
        """
        self._hypervisor = hypervisor
        self.shares = shares or Shares()
        self._disk, self._template, self._restored, self._files = disk, template, restored, files
        self.network, self._spec = network, partial_spec
        self._sockets = _Sockets.make()
        try:
            self._spec = replace(
                partial_spec,
                channel=self._sockets.channel[1].fileno(),
                console=self._sockets.console[1].fileno(),
                monitor=self._sockets.monitor[1].fileno(),
                network=partial_spec.network if network is None else network.attachment,
            )
            self.invocation: Invocation = hypervisor.invocation(self._spec)
            self._sandbox = jail.sandbox(hypervisor.files, self._spec, self.invocation)
        except BaseException:
            self._sockets.close(0)
            self._let_go()
            self._close()
            raise

    @property
    def template(self) -> TemplateRecord | None:
        """What the guest begins as, where it doesn't boot."""
        return None if self._template is None else self._template.record

    @property
    def snapshot(self) -> SnapshotOrigin | None:
        """What the guest goes on from, where it was saved while it ran."""
        return None if self._restored is None else self._restored.origin

    @property
    def acceleration(self) -> Acceleration:
        """What will execute the guest's instructions."""
        return self._spec.acceleration

    def spawn(
        self, loop: Loop, *, console: ConsoleSink, services: Mapping[int, ServiceFactory], tally: Tally | None = None
    ) -> "Guest":
        """Start it, from the thread that will live as long. Raises ProcessError; all that it had is gone then."""
        monitor = self._hypervisor.monitor()
        try:
            process = self._start(monitor)
        except BaseException:
            self.discard()
            raise
        restored = self._restored
        hello = self._template.record.hello if self._template is not None else None
        self._let_go()
        return Guest(
            loop,
            process,
            monitor,
            self._sockets,
            console=console,
            services=services,
            tally=tally,
            shares=self.shares,
            network=self.network,
            files=self._files,
            hello=hello if restored is None else restored.hello,
            config=None if restored is None else restored.config,
        )

    def _start(self, monitor: Monitor) -> JailedProcess:
        # it waits in the socket until the hypervisor reads it, so that mvm doesn't have to wait for a greeting
        self._sockets.monitor[0].sendall(monitor.greeting(restores=self._spec.restored is not None))
        self.shares.start()
        process = JailedProcess.spawn(self.invocation, self._spec.descriptors, self._sandbox)
        try:
            if self.network is not None:
                self.network.start()  # while the guest boots: `Guest.wait_network`
        except BaseException:
            process.close()
            raise
        return process

    def discard(self) -> None:
        """Let go of all that a guest had which will not be started. A second call does nothing."""
        self._sockets.close(0)
        self._let_go()
        self._sandbox.release()
        self._close()

    def _close(self) -> None:
        """Close what a guest would have had."""
        self.shares.close()
        if self.network is not None:
            self.network.close()
        if self._files is not None:
            self._files.close()

    def _let_go(self) -> None:
        """Close what is the hypervisor's."""
        self._sockets.close(1)
        self.shares.release()
        if self.network is not None:
            self.network.release()
        if self._disk is not None:
            self._disk.release()
        for origin in (self._template, self._restored):
            if origin is not None:
                origin.close()
        self._template = self._restored = None
        if self._spec.kvm is not None:
            os.close(self._spec.kvm)
            self._spec = replace(self._spec, kvm=None)


class Guest:
    """A running hypervisor. `channel` speaks to its agent; `events` are what its monitor said so far."""

    def __init__(
        self,
        loop: Loop,
        process: JailedProcess,
        monitor: Monitor,
        sockets: _Sockets,
        *,
        console: ConsoleSink,
        services: Mapping[int, ServiceFactory],
        tally: Tally | None,
        shares: Shares,
        network: MachineNetwork | None = None,
        files: SaveFiles | None = None,
        hello: Hello | None = None,
        config: GuestConfig | None = None,
    ) -> None:
        """Made by `Preparation.spawn` only.

        `hello` is what it said before it was saved, where it was; `config` what it had been told then, if it had been.
        """
        self.process = process
        self.shares = shares
        self.network = network
        self.events, self._is_killed, self.is_warm = list[MonitorEvent](), False, hello is not None
        self.files = files
        self.channel = Channel(sockets.channel[0], loop, services=services, tally=tally, hello=hello, restored=config)
        self.console_bytes = 0
        #: Is told each thing that the monitor says; it may not raise.
        self.on_event: Callable[[MonitorEvent], None] = _ignored
        #: Is told each verdict about the guest's network; it may not raise.
        self.on_network_event: Callable[[NetworkEvent], None] = _unheard
        #: What is done when the guest's network has ended by itself: nothing passes any more.
        self.on_network_end: Callable[[], None] = self.kill
        self._loop = loop
        self._monitor = monitor
        self._console = console
        self._sockets = (sockets.console[0], sockets.monitor[0])
        #: What waits for the answers of the hypervisor.
        self._examined: Timer | None = None
        self._watch()

    def _watch(self) -> None:
        for connection, readable in zip(self._sockets, (self._console_readable, self._monitor_readable), strict=True):
            connection.setblocking(False)
            self._loop.watch(connection.fileno(), read=readable)
        self.process.watch(self._loop, self._process_ended)
        if self.network is not None:
            self.network.watch(self._loop, self._network_event, self._network_ended)
        self.shares.watch(self._loop, self.kill)  # a guest whose file system is gone would wait for ever

    @property
    def progress(self) -> int:
        """Grows with everything that the guest says."""
        return self.console_bytes + self.channel.bytes_received + len(self.events)

    @property
    def bytes_received(self) -> int:
        """How many bytes the guest said, on its console and to the agent's channel."""
        return self.console_bytes + self.channel.bytes_received

    @property
    def traffic(self) -> int:
        """Grows with everything that the guest says and is told, but for the time."""
        return self.progress + self.channel.frames_sent

    def hand_over(
        self, *, console: ConsoleSink, services: Mapping[int, ServiceFactory], tally: Tally | None = None
    ) -> None:
        """Have it be another machine's, which is told all that it says from now on; before it is sent CONFIG."""
        self._console = console
        self.channel.serve(services, tally)
        self.on_event, self.on_network_event, self.on_network_end = _ignored, _unheard, self.kill

    def settle(self, seconds: float) -> None:
        """Let the guest end by itself for so long at most, reading all that it and its hypervisor still say."""
        expired: list[None] = []
        timer = self._loop.after(seconds, lambda: expired.append(None))
        while not expired and not self.process.ended:
            self._loop.turn()
        timer.cancel()

    def pause(self) -> None:
        """Have the guest stand still; the monitor says PAUSED then. Raises MvmnixError."""
        self._tell(self._monitor.pause())

    def resume(self) -> None:
        """Have it go on; the monitor says READY then. Raises MvmnixError."""
        self._tell(self._monitor.resume())

    def save(self) -> None:
        """Have it stand still and be saved; the monitor says SAVED then, or SAVE_FAILED. Raises MvmnixError."""
        self._tell(self._monitor.save())

    def examine(self, told: Callable[[Mapping[str, str]], None], *, registers: bool) -> None:
        """Ask the hypervisor how its guest stands; `told` gets what it answered, by question, in 3 seconds at most.

        See `Monitor.examine`. It is called later, from the loop, and not at all once the guest was closed.
        """
        question, seconds = self._monitor.examine(registers=registers), _ANSWERS
        try:
            self._tell(question)
        except MvmnixError:
            seconds = 0.0  # it takes no question, which is the answer
        self._examined = self._loop.after(seconds, lambda: told(self._monitor.answers))

    def _tell(self, data: bytes) -> None:
        try:
            told = self._sockets[1].send(data)
        except OSError as error:
            raise MvmnixError(f"cannot write to the hypervisor's monitor: {error.strerror}", hint=_DEAF) from error
        if told < len(data):
            raise MvmnixError("the hypervisor's monitor accepts no data", hint=_DEAF)

    def failure(self) -> ProcessError | None:
        """That the hypervisor failed, or a server of its shares: the first one that complained.

        Without a complaint, that of a hypervisor that ended by itself with a status; None where there is none. One that
        was ended here didn't fail.
        """
        if self.process.last_words and not self._is_killed:
            return self.process.failure()
        ended_itself = not self._is_killed and self.process.status not in {None, 0, -signal.SIGKILL}
        network = None if self.network is None else self.network.failure()
        return self.shares.failure() or network or (self.process.failure() if ended_itself else None)

    @property
    def last_words(self) -> tuple[str, ...]:
        """What its processes complained about, escaped."""
        network = () if self.network is None else self.network.last_words
        return (*self.process.last_words, *self.shares.last_words, *network)

    def wait_network(self) -> None:
        """Wait until the guest's network serves it, or has ended, if it has one. Raises ChannelClosedError."""
        if self.network is None:
            return
        while self.network.is_starting and not self.process.ended:
            self._loop.turn()
        if self.process.ended:
            raise ChannelClosedError("the guest was ended before its network served it")

    def kill(self) -> None:
        """End the hypervisor now."""
        self._is_killed |= not self.process.ended
        self.process.kill()

    def close(self) -> None:
        """End it, take in what is left in its sockets, and let go of everything. A second call does nothing."""
        if self._examined is not None:
            self._examined.cancel()
        self.kill()
        self._drain(self._sockets[0], self._take_console)
        self._drain(self._sockets[1], self._take_monitor)
        self.process.forget(self._loop)
        self.process.close()
        self.shares.close(self._loop)
        if self.network is not None:
            self.network.close(self._loop)
        if self.files is not None:
            self.files.close()
        self.channel.close()
        for connection in self._sockets:
            if connection.fileno() >= 0:
                self._loop.forget(connection.fileno())
                connection.close()

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
        for event in events:
            self.on_event(event)
        if self._examined is not None and self._monitor.answered:
            self._examined.fire()
        if MonitorEvent.INTERNAL_ERROR in events:
            self.kill()  # QEMU would stand still for ever

    def _network_event(self, event: NetworkEvent) -> None:
        self.on_network_event(event)

    def _network_ended(self) -> None:
        self.on_network_end()

    def _process_ended(self) -> None:
        """The channel ends by itself, once all that the guest said was read; the timer is for what can't happen."""
        self._loop.after(_AFTERMATH, self.channel.close)
