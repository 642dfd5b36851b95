"""Takes every connection and question of a guest, holds it against the plan's rules, and carries what they allow.

It runs in a sandbox of its own, in a network namespace without a device (host/setup.py): it can accept from the
sockets of the guest's namespace, and has no call to make or connect one. It reads what a stranger writes, byte by byte,
so it counts as taken over: the dialer takes a rule's id, a host and a port from it, and judges them itself.

For each connection:

1. Its destination is a synthetic address, which stands for a name, or an address that a rule names.
2. The rules for that host and port. Without one the connection is refused at once.
3. By the rules' protocol, what the guest says first: a TLS hello with that name (client_hello.py), a request with it as
   Host (http_heads.py); for `tcp` nothing, since the server may speak first.
4. The dialer connects, by that rule.
5. Bytes go both ways (relay.py), as far as the rule's limits allow. Of HTTP, each further request is read as the first,
   and may be of another rule (http_relay.py).

Each verdict is an event. What is refused says so to the program: a reset, an alert of TLS, an answer 403 with the flag
that would allow it.
"""

import asyncio
import errno
import importlib
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from ipaddress import IPv4Address
from typing import Final

from mvmnix.network.gateway.dialer_client import DialerClient
from mvmnix.network.gateway.meters import RuleMeter
from mvmnix.network.gateway.names import NameServer, SyntheticAddresses
from mvmnix.network.gateway.opening import (
    HEAD_SECONDS,
    DeniedError,
    portion,
    read_hello,
    refuse,
    speaks_http,
    speaks_tls,
)
from mvmnix.network.gateway.refused_packets import TCP, refused_packets
from mvmnix.network.gateway.relay import Pipes, Relay, SpentError, settle
from mvmnix.network.policy.decisions import Denial, Rules, Verdict
from mvmnix.network.policy.explain import sentence
from mvmnix.network.sockets import MAX_CONNECTIONS, PACKET_BYTES, reset, set_options
from mvmnix.network.supervisor_messages import HandedOver, NetworkEvent, NetworkEventKind, read_network
from mvmnix.network.token_bucket import TokenBucket
from mvmnix.plan.network import Network, NetworkRule, Protocol, RuleLimits
from mvmnix.system.descriptors import received
from mvmnix.system.prctl import filter_system_calls

#: Connections of DNS at a time.
_QUESTIONS: Final = 64
#: Seconds in which the supervisor is told the last of them.
_LAST: Final = 1.0
#: Events that the supervisor hasn't read, and seconds for which they are gathered.
_EVENTS: Final = 4096
_GATHER: Final = 0.01
#: Seconds that are waited when there are no descriptors.
_PAUSE: Final = 0.2
#: Destinations that are known from connections before, and verdicts about hellos: each depends on the plan alone.
_KNOWN: Final = 1024
#: Connections that are accepted before anything else is looked at.
_BATCH: Final = 64
#: Bytes of what the kernel tells at a time.
_TOLD: Final = 65_536
#: What parses names and requests takes longer to import than all else: it is imported on first use, or after so many
#: seconds, in case an upgrade of mvm replaces the files.
_PARSERS: Final = ("resolver", "http_relay")
_LATER: Final = 5.0
#: Connections beyond the plan's rate that are told of in a second.
_TOO_FAST: Final = 1.0
_UNMETERED: Final = RuleMeter(RuleLimits(), time.monotonic)


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a gateway is given: the guest's side, and its two conversations."""

    connections: socket.socket
    questions: socket.socket
    datagrams: socket.socket
    refused: socket.socket
    dialer: socket.socket
    events: socket.socket


@dataclass(frozen=True, slots=True)
class RedirectTarget:
    """What a connection is for: a host as the guest named it, its port, and the rules that may allow it."""

    host: str
    port: int
    rules: tuple[NetworkRule, ...]


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


class Gateway:
    """One machine's."""

    def __init__(self, network: Network, sockets: Sockets) -> None:
        self._rules = Rules(network)
        self._tls = lru_cache(_KNOWN)(self._rules.tls)
        self._sockets = sockets
        self._names = SyntheticAddresses(self._rules.synthetic_networks, self._rules.exact_names)
        self._ended: asyncio.Event = asyncio.Event()
        self._events = Events(sockets.events, self._ended.set)
        self._dialer = DialerClient(sockets.dialer, self._ended.set, self._tell_dropped)
        self._meters: dict[str, RuleMeter] = {}
        self._too_fast = TokenBucket(_TOO_FAST, 1, time.monotonic)
        self._targets: dict[tuple[str, int], RedirectTarget] = {}
        self._pipes = Pipes()
        self._open: set[asyncio.Task[None]] = set()
        self._resolver = NameServer(self._rules, self._names, self._events.tell, time.monotonic)

    async def serve(self) -> None:
        """Serve until the supervisor or the dialer is gone."""
        loop = asyncio.get_running_loop()
        self._dialer.start(loop)
        for one in (self._sockets.connections, self._sockets.questions):
            set_options(one)
        self._resolver.start(loop, self._sockets.datagrams)
        accepting = (
            self._accept(self._sockets.connections, self._serve, MAX_CONNECTIONS),
            self._accept(self._sockets.questions, self._resolver.serve, _QUESTIONS),
        )
        self._open.update(map(asyncio.create_task, accepting))
        loop.add_reader(self._sockets.events.fileno(), self._handed_over)
        loop.add_reader(self._sockets.refused.fileno(), self._packets_refused)
        self._events.tell(NetworkEvent(NetworkEventKind.READY))
        loop.call_later(_LATER, _import_parsers)
        await self._ended.wait()
        given = self._sockets
        for one in (given.connections, given.questions, given.datagrams, given.refused, given.events):
            loop.remove_reader(one.fileno())
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._dialer.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                await self._events.all_told()

    async def _accept(
        self, listener: socket.socket, serve: Callable[[socket.socket], Awaitable[None]], most: int
    ) -> None:
        """Serve each connection in a task of its own; of more than so many at a time, reset what comes."""
        readable, loop = asyncio.Event(), asyncio.get_running_loop()
        serving: set[asyncio.Task[None]] = set()
        short = False
        loop.add_reader(listener.fileno(), readable.set)
        while True:
            await readable.wait()
            readable.clear()
            if not self._events.has_room:
                loop.remove_reader(listener.fileno())  # it stays readable
                await self._events.room()
                loop.add_reader(listener.fileno(), readable.set)
            for _ in range(_BATCH):
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    break
                except OSError:  # no descriptors are left
                    if not short:
                        self._events.tell(NetworkEvent(NetworkEventKind.DENIED, code=Denial.GATEWAY_BUSY))
                    short = True
                    loop.remove_reader(listener.fileno())
                    await asyncio.sleep(_PAUSE)
                    loop.add_reader(listener.fileno(), readable.set)
                    break
                short = False
                connection.setblocking(False)
                if len(serving) >= most:
                    self._events.tell(NetworkEvent(NetworkEventKind.DENIED, code=Denial.GATEWAY_BUSY))
                    reset(connection)
                    continue
                task = asyncio.create_task(_served(serve, connection))
                serving.add(task)
                task.add_done_callback(serving.discard)

    def _packets_refused(self) -> None:
        """Say why: what the guest sent has been answered already, by the packet rules."""
        try:
            told = self._sockets.refused.recv(_TOLD)
        except OSError:  # ENOBUFS: some weren't heard (netlink(7))
            return
        for packet in refused_packets(told) if self._events.has_room else ():
            name = self._names.name_of(packet.address)
            verdict = self._rules.refused_packet(packet.address, name, packet.port, tcp=packet.protocol == TCP)
            denied = DeniedError(verdict.code or Denial.NO_RULE, verdict.rule)
            self._tell_denied(denied, self._asked_for(str(packet.address)), packet.port)

    def _handed_over(self) -> None:
        """A connection into the guest, of which both ends were connected by the supervisor (published_ports.py)."""
        try:
            packet, fds, _ = received(self._sockets.events, PACKET_BYTES, 2)
        except BlockingIOError:
            return
        except OSError:
            packet, fds = b"", []
        ends = [socket.socket(fileno=fd) for fd in fds]
        if not packet:
            self._ended.set()
            return
        handed = HandedOver.parse(packet)
        if len(ends) != 2:  # no descriptors are left
            for end in ends:
                reset(end)
            self._events.tell(NetworkEvent(NetworkEventKind.DENIED, code=Denial.GATEWAY_BUSY, port=handed.port))
            self._events.tell(NetworkEvent(NetworkEventKind.INBOUND_CLOSED, port=handed.port, slot=handed.slot))
            return
        _ = self._begin(self._carry_in(handed, *ends))

    def _begin(self, doing: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(doing)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def _carry_in(self, handed: HandedOver, client: socket.socket, guest: socket.socket) -> None:
        relay = Relay(client, guest, _UNMETERED, self._pipes)
        with suppress(OSError):
            set_options(client)
            set_options(guest)
        try:
            await relay.run()
            await settle(client, guest)
        finally:
            closed = NetworkEvent(
                NetworkEventKind.INBOUND_CLOSED,
                port=handed.port,
                sent=relay.received.count,
                received=relay.sent.count,
                slot=handed.slot,
            )
            self._events.tell(closed)

    async def _serve(self, guest: socket.socket) -> None:
        (address, port), rule = guest.getsockname(), ""
        try:
            target = self._targets.get((address, port))
            if target is None:
                target = self._target(IPv4Address(address), port)
                if len(self._targets) < _KNOWN:
                    self._targets[address, port] = target
            rule = target.rules[0].id
            await self._admitted(guest, target)
        except DeniedError as denied:
            denied.rule = denied.rule or rule
            await self._deny(guest, denied, address, port)
        except MemoryError:
            reset(guest)
            self._tell_denied(DeniedError(Denial.GATEWAY_BUSY, rule), self._asked_for(address), port)
        except OSError:
            reset(guest)

    async def _deny(self, guest: socket.socket, denied: DeniedError, address: str, port: int) -> None:
        """Tell that a connection to this address is refused, and say it to the guest."""
        host = self._asked_for(address)
        self._tell_denied(denied, host, port)
        verdict = Verdict(allowed=False, rule=denied.rule, code=denied.code)
        await refuse(guest, denied, sentence(verdict, host, port, denied.protocol, denied.method))

    def _asked_for(self, address: str) -> str:
        """The name that a synthetic address stands for, or the address."""
        return self._names.name_of(IPv4Address(address)) or address

    def _tell_denied(self, denied: DeniedError, host: str, port: int) -> None:
        if denied.code is Denial.LIMIT_CONNECTION_RATE and not self._too_fast.take():
            return
        self._events.tell(
            NetworkEvent(
                NetworkEventKind.DENIED,
                rule=denied.rule,
                code=denied.code,
                name=host,
                address=denied.address,
                port=port,
                protocol=denied.protocol or "",
                method=denied.method,
            )
        )

    def _tell_dropped(self, connection: int) -> None:
        self._events.tell(NetworkEvent(NetworkEventKind.CLOSED, connection=connection))

    def _target(self, address: IPv4Address, port: int) -> RedirectTarget:
        # 1. what it is for
        if address not in self._names:
            verdict = self._rules.address(address, port)
            if verdict.code is not None:
                raise DeniedError(verdict.code, verdict.rule, str(address))
            return RedirectTarget(str(address), port, (self._rules.rule(verdict.rule),))
        name = self._names.name_of(address)
        if name is None:
            raise DeniedError(Denial.NO_RULE)
        # 2. its rules
        found = self._rules.names(name, port)
        if isinstance(found, Verdict):
            raise DeniedError(found.code or Denial.NO_RULE, found.rule)
        return RedirectTarget(name, port, found)

    async def _admitted(self, guest: socket.socket, target: RedirectTarget) -> None:
        # 3. what it says first
        if target.rules[0].protocol is Protocol.TCP:
            await self._carry(guest, target, target.rules[0], b"")
            return
        deadline = asyncio.get_running_loop().time() + HEAD_SECONDS
        said = await portion(guest, deadline)
        if not said:
            return
        if speaks_http(said) and any(it.protocol is Protocol.HTTP for it in target.rules):
            await self._carry_http(guest, target, said, deadline)
        elif speaks_tls(said) and any(it.protocol is not Protocol.HTTP for it in target.rules):
            judged = partial(self._tls, target.host, target.port)
            verdict, said = await read_hello(guest, said, judged, deadline)
            await self._carry(guest, target, self._rules.rule(verdict.rule), said)
        else:
            raise DeniedError(Denial.PROTOCOL, target.rules[0].id, said=said)

    async def _carry_http(self, guest: socket.socket, target: RedirectTarget, said: bytes, deadline: float) -> None:
        from mvmnix.network.gateway.http_relay import HttpRelay  # noqa: PLC0415 - `_PARSERS`

        place, leaving = guest.getsockname(), list[asyncio.Task[None]]()
        relay = HttpRelay(
            self._rules,
            target.host,
            target.port,
            meter=lambda rule: self._meter(self._rules.rule(rule)),
            dial=lambda rule: self._dialer.dial(rule, target.host, target.port),
            tell=self._events.tell,
            leave=lambda server: leaving.append(self._begin(_leave(server))),
        )
        try:
            await relay.serve(guest, said, deadline)
        except DeniedError as denied:
            denied.rule = denied.rule or target.rules[0].id
            await self._deny(guest, denied, *place)
        except OSError:
            reset(guest)
        await asyncio.gather(_leave(guest), *leaving)  # until then it is one of those at a time

    async def _carry(self, guest: socket.socket, target: RedirectTarget, rule: NetworkRule, said: bytes) -> None:
        """Steps 4 and 5 for what isn't looked at any further."""
        meter = self._meter(rule)
        if meter.is_spent:
            raise DeniedError(Denial.LIMIT_BYTES, rule.id, said=said)
        if not meter.open():
            raise DeniedError(Denial.LIMIT_CONNECTIONS, rule.id, said=said)
        try:
            # 4. the dialer
            server = await self._dialer.dial(rule.id, target.host, target.port)
            opened = NetworkEvent(
                NetworkEventKind.OPENED,
                rule=rule.id,
                name=target.host,
                address=server.address,
                port=target.port,
                connection=server.number,
            )
            self._events.tell(opened)
            relay, code = Relay(guest, server.socket, meter, self._pipes), ""
            try:
                code = _code_of(await relay.run(said))
            finally:
                sent, received = relay.sent.count, relay.received.count
                closed = replace(opened, kind=NetworkEventKind.CLOSED, code=code, sent=sent, received=received)
                self._events.tell(closed)
        except DeniedError as denied:
            denied.said = said
            raise
        finally:
            meter.close()
        await settle(guest, server.socket)

    def _meter(self, rule: NetworkRule) -> RuleMeter:
        if rule.id not in self._meters:
            self._meters[rule.id] = RuleMeter(rule.limits, asyncio.get_running_loop().time)
        return self._meters[rule.id]


def _code_of(error: OSError | None) -> str:
    """Why a connection was ended here; "" where it wasn't."""
    if isinstance(error, SpentError):
        return Denial.LIMIT_BYTES
    return Denial.GATEWAY_BUSY if error is not None and error.errno in {errno.EMFILE, errno.ENFILE} else ""


def _import_parsers() -> None:
    for name in _PARSERS:
        importlib.import_module(f"mvmnix.network.gateway.{name}")


async def _leave(connection: socket.socket) -> None:
    """Send the end of a connection that is open still, and close it once that is acknowledged."""
    if connection.fileno() >= 0:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        await settle(connection)


async def _served(serve: Callable[[socket.socket], Awaitable[None]], connection: socket.socket) -> None:
    """A task that ends with its connection closed, whatever happens; what isn't foreseen is told once on the way."""
    try:
        await serve(connection)
        await _leave(connection)
    except (OSError, EOFError):
        reset(connection)
    except Exception as error:  # noqa: BLE001 - it is one connection's
        sys.stderr.write(f"error: {type(error).__name__}: {error}\n")
        reset(connection)
    finally:
        connection.close()


def main(filter_: int, rules: int, *sockets: int) -> None:
    """Serve until the supervisor or the dialer is gone.

    `filter_` is a file with the filter to serve under (prctl.py), `rules` one with the plan's network.
    """
    network = read_network(rules)
    given = Sockets(*(socket.socket(fileno=fd) for fd in sockets))
    for one in (given.connections, given.questions, given.datagrams, given.refused, given.events):
        one.setblocking(False)
    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        filter_system_calls(filter_)
        runner.run(Gateway(network, given).serve())
