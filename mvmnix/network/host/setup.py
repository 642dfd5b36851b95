"""Makes a plan's network ready for a machine: its namespace, its gateway and its dialer, all of them or none.

Nothing else starts a gateway or a dialer. They are sandboxed, beside the hypervisor, and gone with it.

1. The namespace, whose rules hold before the hypervisor has the guest's device. It is made while the rest of a machine
   is prepared: what lasts is the start of a process.
2. Sandboxes for the two processes; what the host lacks is refused, and nothing is opened instead.
3. Both start beside the hypervisor, whose guest takes longer to boot than they to serve. What it sends before that
   waits in sockets, and no machine is ready before both are.
4. If one of them ends, so does the other: no packet passes any more, since no process is left that accepts.
5. Each tells what is its own to tell, over a socket that the other one doesn't have; the end of one that tells anything
   else is as 4. Connections are events by the dialer's word, joined with the gateway's reports (connections.py).
"""

import importlib.util
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import mvmnix
from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import MalformedError
from mvmnix.network.host import namespace, namespace_setup
from mvmnix.network.host.connections import Connections
from mvmnix.network.host.packet_rules import taken_by
from mvmnix.network.host.published_ports import PublishedPorts, listen
from mvmnix.network.sockets import PACKET_BYTES, pair
from mvmnix.network.supervisor_messages import HandedOver, NetworkEvent, NetworkEventKind, network_bytes
from mvmnix.plan.network import Network
from mvmnix.sandbox import seccomp
from mvmnix.sandbox.profiles.network import DIALER_SERVING, GATEWAY_SERVING
from mvmnix.sandbox.trusted_executables import PYTHON, locate
from mvmnix.system.loop import Loop
from mvmnix.system.process import ProcessError, is_readable
from mvmnix.system.store import memfd
from mvmnix.vmm.confinement import Jail, NetworkService, ProcessSandbox
from mvmnix.vmm.port import Invocation, NetworkAttachment
from mvmnix.vmm.process import JailedProcess, ServiceProcess

_CODE: Final = "/code"
#: asyncio does without ssl where there is none, and is imported sooner.
_START: Final = f"""
import sys
sys.modules["ssl"] = None
sys.path.append({_CODE!r})
from mvmnix.network.%s.process import main
main(*map(int, sys.argv[1:]))
"""
_MIB: Final = 1 << 20
#: Libraries that the gateway parses by; the dialer needs none.
LIBRARIES: Final = ("dns", "h11")
#: What the C library's resolver reads (resolver(5), nsswitch.conf(5), gai.conf(5)).
_RESOLVER: Final = "/etc/resolv.conf"
_SETTINGS: Final = (_RESOLVER, "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf")
_LARGEST_SETTING: Final = 1 << 20
#: Seconds for an answer, and times that all servers are asked, unless the host's own file says it.
_PATIENCE: Final = b"options timeout:3 attempts:2\n"
#: Descriptors: a connection has its two sockets, and a pipe for each direction in which bytes wait.
DESCRIPTORS: Final = 8192
#: The dialer has a socket while it connects. It alone may send some away, and the kernel compares those of a user that
#: are in flight with this number (unix(7)): even with a packet more (SCM_MAX_FD) those with 1,024 have room.
DIALER_DESCRIPTORS: Final = 512
GATEWAY_MEMORY: Final = 256 * _MIB
DIALER_MEMORY: Final = 128 * _MIB
#: What the gateway may tell, and what the dialer may.
_OF_GATEWAY: Final = frozenset(
    {
        NetworkEventKind.READY,
        NetworkEventKind.NAME,
        NetworkEventKind.OPENED,
        NetworkEventKind.CLOSED,
        NetworkEventKind.DENIED,
        NetworkEventKind.INBOUND_CLOSED,
    }
)
_OF_DIALER: Final = frozenset({NetworkEventKind.READY, NetworkEventKind.OPENED, NetworkEventKind.BREACH})
#: After which neither is ours any more.
_LAST_EVENTS: Final = frozenset({NetworkEventKind.BREACH, NetworkEventKind.FORGED})
#: Events that are read before anything else is looked at.
_BATCH: Final = 256
#: Bytes of connections into the guest that wait for a gateway, as the kernel counts them: some more than there are at
#: a time (namespace.INBOUND). Their descriptors are in flight until it takes them, which are counted by user (unix(7)).
_HANDED_OVER: Final = 32 << 10
#: Seconds that a gateway has for the last of them.
_LAST: Final = 1.5


class MachineNetwork:
    """The network of one machine. It has descriptors, sandboxes and, once started, processes, until `close`."""

    def __init__(self, network: Network, jail: Jail) -> None:
        """Begin to make the namespace, and make the rest; `attachment` waits for it.

        Raises RefusedError [network-unavailable, state-permissions, limit-unavailable], MvmnixError.
        """
        self._namespace: namespace.Namespace | None = None
        self._ends: list[socket.socket] = []
        #: Conversations with those that don't serve yet.
        self._starting: set[socket.socket] = set()
        self._told: Callable[[NetworkEvent], None] = lambda _: None
        #: Is told which connection into the guest the gateway is done with; returns whether it had that one.
        self._give_back: Callable[[int], bool] = lambda _: False
        self._connections = Connections(network)
        #: Conversations that are over, and whether the gateway isn't ours any more.
        self._over, self._is_breached = set[socket.socket](), False
        #: The guest's device, which is the hypervisor's.
        self._tap: int | None = None
        with ExitStack() as stack:
            self._listeners = listen(network.ports)
            for _, listener in self._listeners:
                stack.callback(listener.close)
            inbound = namespace.INBOUND if network.ports else 0
            self._making: namespace.Making | None = namespace.Making(taken_by(network), inbound=inbound)  # 1
            stack.callback(self._abandon)
            # 2
            python, parsing, dialing = locate(PYTHON), code_directories(*LIBRARIES), code_directories()
            for fd in (*parsing.values(), *dialing.values()):
                stack.callback(os.close, fd)
            gateway = NetworkService(python, parsing, {}, GATEWAY_MEMORY, DESCRIPTORS, dials=False)
            self._gateway = NetworkProcess(jail, "gateway", gateway)
            stack.callback(self._gateway.close)
            dialer = NetworkService(python, dialing, resolver_settings(), DIALER_MEMORY, DIALER_DESCRIPTORS, dials=True)
            self._dialer = NetworkProcess(jail, "dialer", dialer)
            stack.callback(self._dialer.close)
            data = network_bytes(network)
            self._processes: tuple[NetworkProcess, ...] = self._gateway, self._dialer
            self._given = (memfd(data, name="mvmnix-network"), memfd(data, name="mvmnix-network"))
            for fd in self._given:
                stack.callback(os.close, fd)
            self._stack = stack.pop_all()

    @property
    def attachment(self) -> NetworkAttachment:
        """The guest's device, for the hypervisor, once the rules hold.

        Raises RefusedError [network-unavailable], ValueError once it was released.
        """
        self._made()
        if self._tap is None:
            raise ValueError("the device is the hypervisor's already")
        return NetworkAttachment(self._tap, namespace_setup.GUEST_MAC)

    def _made(self) -> namespace.Namespace:
        making, self._making = self._making, None
        if making is not None:
            self._namespace = making.finish()
            self._tap = self._namespace.tap
            self._stack.callback(self.release)
            self._stack.callback(self._namespace.close)
        if self._namespace is None:
            raise ValueError("a network that isn't ready")
        return self._namespace

    def _abandon(self) -> None:
        making, self._making = self._making, None
        if making is not None:
            making.abandon()

    def start(self) -> None:
        """Start both, from the thread that will live as long. Raises ProcessError, and what `attachment` raises."""
        made = self._made()
        # 3. both processes
        asking, asked = pair()
        ours, gateways = pair()
        also_ours, dialers = pair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _HANDED_OVER)
        self._ends = [ours, also_ours]
        self._starting = {ours, also_ours}
        for end in self._ends:
            end.setblocking(False)
            self._stack.callback(end.close)
        with asking, asked, gateways, dialers:
            self._dialer.start((self._given[1], asked.fileno(), dialers.fileno()))
            sockets = (made.connections, made.questions, made.datagrams, made.refused, asking, gateways)
            self._gateway.start((self._given[0], *(one.fileno() for one in sockets)))
        made.release_served()

    def watch(self, loop: Loop, told: Callable[[NetworkEvent], None], ended: Callable[[], None]) -> None:
        """Have `told` called with each event, and `ended` once one of the processes ends by itself."""
        over: list[None] = []
        self._told = told

        def end() -> None:
            if not over:
                over.append(None)
                self._starting.clear()
                self.kill_soon()  # 4
                ended()

        for each in self._ends:
            loop.watch(each.fileno(), read=partial(self._heard, each, loop, end))
        for one in self._processes:
            one.watch(loop, end)
        if self._namespace is not None:
            ports = PublishedPorts(self._listeners, self._namespace.inbound, loop, self._hand_over, told)
            self._stack.callback(ports.close)
            self._give_back = ports.give_back

    @property
    def is_starting(self) -> bool:
        """Whether one of the processes doesn't serve yet, and neither has ended."""
        return bool(self._starting)

    def _hand_over(self, handed: HandedOver, client: socket.socket, guest: socket.socket) -> None:
        """Give the gateway both ends of a connection into the guest. Raises OSError."""
        socket.send_fds(self._ends[0], [handed.to_bytes()], [client.fileno(), guest.fileno()])

    def _heard(self, end: socket.socket, loop: Loop, ended: Callable[[], None]) -> None:
        if not self._hear(end):
            loop.forget(end.fileno())
            ended()

    def _hear(self, end: socket.socket) -> bool:
        """Take what there is to hear; whether there may be more."""
        for _ in range(_BATCH):
            try:
                if not self._take_event(end):
                    return False
            except BlockingIOError:
                return True
        return True

    def _take_event(self, end: socket.socket) -> bool:
        """Take one event; False where the conversation is over. Raises BlockingIOError where there is none."""
        if end in self._over or (self._is_breached and end is self._ends[0]):
            return False
        try:
            packet = end.recv(PACKET_BYTES)
            events = [*self._judge(end, NetworkEvent.parse(packet))]  # an empty one is the end
        except BlockingIOError:
            raise
        except (OSError, MalformedError):
            self._over.add(end)
            return False
        for event in events:
            self._is_breached |= event.kind in _LAST_EVENTS
            self._told(event)
        return not self._is_breached

    def _judge(self, end: socket.socket, event: NetworkEvent) -> Iterable[NetworkEvent]:
        """Return what comes of an event (5). Raises MalformedError for what isn't its teller's to tell."""
        is_dialer = end is self._ends[1]
        if event.kind not in (_OF_DIALER if is_dialer else _OF_GATEWAY) or event.rule not in self._connections.rules:
            raise MalformedError("not an event of this process")
        if event.kind is NetworkEventKind.READY:
            self._starting.discard(end)
        if is_dialer:
            return self._connections.dial(event) if event.kind is NetworkEventKind.OPENED else (event,)
        if event.kind in {NetworkEventKind.OPENED, NetworkEventKind.CLOSED}:
            self._take_dialer_events(event.connection)
            return self._connections.report(event)
        if event.kind is NetworkEventKind.INBOUND_CLOSED and not self._give_back(event.slot):
            return (replace(event, kind=NetworkEventKind.FORGED),)
        return (event,)

    def _take_dialer_events(self, number: int) -> None:
        """Take what the dialer told until it tells of this connection, which is before the gateway has it."""
        dialer = self._ends[1]
        with suppress(BlockingIOError):
            while number not in self._connections and dialer not in self._over:
                self._take_event(dialer)

    def _hear_out(self, end: socket.socket) -> None:
        """Have the gateway end, and take what it tells last: the bytes of connections that are open still.

        What the dialer tells later than that may not reach the gateway.
        """
        if self._hear(self._ends[1]) and not self._over:
            self._connections.begin_to_end()
        with suppress(OSError):
            end.shutdown(socket.SHUT_WR)
        until = time.monotonic() + _LAST
        while (left := until - time.monotonic()) > 0 and is_readable(end.fileno(), left) and self._hear(end):
            pass

    def kill_soon(self) -> None:
        """End both, without waiting for that."""
        for one in self._processes:
            one.kill_soon()

    def release(self) -> None:
        """Close what is the hypervisor's, once it has it or will never have it."""
        if self._tap is not None:
            os.close(self._tap)
            self._tap = None

    @property
    def last_words(self) -> tuple[str, ...]:
        """What the processes complained about, escaped."""
        return tuple(f"{one.name}: {line}" for one in self._processes for line in one.last_words)

    def failure(self) -> ProcessError | None:
        """That of the first that complained."""
        return next((failure for one in self._processes if (failure := one.failure()) is not None), None)

    def close(self, loop: Loop | None = None) -> None:
        """End the processes, and let go of everything; `loop` watched them. A second call does nothing."""
        if loop is not None:
            for one in self._processes:
                one.forget(loop)
            for end in self._ends:
                if end.fileno() >= 0:
                    loop.forget(end.fileno())
            if self._ends and self._gateway.pid is not None and not self._starting:
                self._hear_out(self._ends[0])
            if self._ends:
                self._dialer.close()  # it makes no more of them
                self._take_dialer_events(-1)
                for event in self._connections.finish():
                    self._told(event)
        self._ends = []
        self._stack.close()


class NetworkProcess(ServiceProcess):
    """A gateway or a dialer: made first, started beside the hypervisor.

    Each is given mvm's code, read-only; the plan's network and the filter of system calls that it serves under, in
    memory; its sockets. The gateway also has the code of the libraries that it parses by; the dialer the settings of
    the host's resolver, as they were when the machine started.
    """

    def __init__(self, jail: Jail, name: str, service: NetworkService) -> None:
        """Raises what `Jail.network` raises."""
        super().__init__()
        self.name, self._service = name, service
        self._sandbox: ProcessSandbox = jail.network(service)

    def start(self, descriptors: tuple[int, ...]) -> None:
        """Start it with these, which stay the caller's. Raises ProcessError."""
        profile = DIALER_SERVING if self._service.dials else GATEWAY_SERVING
        with os.fdopen(memfd(seccomp.program(profile), name="mvmnix-filter"), "rb") as filter_:
            given = (filter_.fileno(), *descriptors)
            argv = (self._service.program, "-I", "-S", "-c", _START % self.name, *map(str, given))
            self._process = JailedProcess.spawn(Invocation(argv, ()), given, self._sandbox)

    def close(self) -> None:
        """End it, and let go of all that it had."""
        if self._process is None:
            self._sandbox.release()
        else:
            self._process.close()


def code_directories(*libraries: str) -> Mapping[str, int]:
    """By their paths inside, descriptors of directories of code, mvm's own among them; the caller closes them.

    Raises MvmnixError.
    """
    places = {"mvmnix": str(Path(mvmnix.__file__).parent)}
    for name in libraries:
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise MvmnixError(
                f"the Python package {name} is missing", hint="install mvmnix again, with its dependencies"
            )
        places[name] = found.submodule_search_locations[0]
    return {
        f"{_CODE}/{name}": os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for name, path in places.items()
    }


def resolver_settings() -> Mapping[str, bytes]:
    """The files of the host's resolver, as they are now, but for its search list, and with time-outs (resolv.conf(5)).

    A name with a dot is what the rules say that it is; with a list, the resolver would try other names once it isn't
    found. The last such line counts, and a dot is the root.
    """
    found = dict(host_settings())
    found[_RESOLVER] = _PATIENCE + found.get(_RESOLVER, b"") + b"\nsearch .\n"
    return found


def host_settings() -> Mapping[str, bytes]:
    """The files that the host's own programs resolve names by."""
    found: dict[str, bytes] = {}
    for path in _SETTINGS:
        with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
            found[path] = file.read(_LARGEST_SETTING)
    return found
