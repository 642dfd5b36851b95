"""Corpus: nothing passes a gateway or a dialer that is taken over, stopped, out of descriptors or out of memory.

`without its gateway` and a supervisor that is killed: test_connections.py, test_killed.py.
"""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.host.setup import DIALER_DESCRIPTORS, DIALER_MEMORY, NetworkProcess, code_directories
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import MAX_CONNECTIONS, pair
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind, network_bytes
from mvmnix.plan.network import Network, parse_rules
from mvmnix.sandbox.trusted_executables import PYTHON, locate
from mvmnix.system.descriptors import received
from mvmnix.system.store import memfd
from mvmnix.vmm.confinement import NetworkService
from mvmnix.vmm.jail.network_sandbox import NetworkSandbox
from tests.hostile.network.clients import echo
from tests.hostile.network.corpus import allowed, assert_verdict, verdicts
from tests.hostile.network.servers import full_server
from tests.hostile.network.wire import Capture
from tests.hostile.network.world import OTHER, PUBLIC, Server, World, own_network, world
from tests.hostile.stand_in import jail
from tests.patience import EVENT_PATIENCE, QUIET
from tests.support.processes import field
from tests.unit.network.processes import process_ids

pytestmark = pytest.mark.root("it makes network namespaces of its own")

NAME: Final = "api.example.com"
SLOW: Final = tuple(f"{letter}.slow.example.com" for letter in "abcdefghijklmnop")
_ALLOW = (f"tcp:{NAME}:7,id=api", f"http://{NAME}:80,id=http", "tcp:*.slow.example.com:9,id=slow")
_DENY = ("denied.example.com",)
_HOSTS = f"{PUBLIC} {NAME}\n{OTHER} {' '.join(SLOW)} other.example.org denied.example.com"
GATEWAY, DIALER = 0, 1
BOTH = pytest.mark.parametrize("which", [GATEWAY, DIALER], ids=["gateway", "dialer"])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, _ALLOW, _DENY, hosts=_HOSTS) as made, Server(PUBLIC, 7, echo), Server(OTHER, 7, echo):
        yield made


@contextmanager
def nothing_passes() -> Iterator[None]:
    """No frame of what is done meanwhile is seen on the host or beyond."""
    with Capture(PUBLIC) as capture:
        capture.drain()
        yield
        assert capture.frames(0.05, b"hello") == []


def _begun(here: World, address: str) -> socket.socket:
    """A connection whose guest has said something."""
    connection = here.guest.connect(address, 7)
    connection.sendall(b"hello")
    return connection


@BOTH
def test_one_that_is_stopped(here: World, which: int) -> None:
    """Slow without end: a connection waits, as its guest does, and is served once the process goes on."""
    address, pid = here.find(NAME), process_ids(here.network)[which]
    os.kill(pid, signal.SIGSTOP)
    try:
        with nothing_passes():
            connection = _begun(here, address)
            connection.settimeout(QUIET)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            here.turn()
            assert verdicts(here) == []
    finally:
        os.kill(pid, signal.SIGCONT)
    with connection:
        connection.settimeout(EVENT_PATIENCE)
        assert connection.recv(10) == b"hello"
    assert_verdict(here, allowed("api", PUBLIC))
    assert here.ended == []


class Limited:
    """Worlds whose gateway or dialer may have so much of something (setrlimit(2)), from its begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: Path) -> None:
        self._monkeypatch, self._where = monkeypatch, where

    @contextmanager
    def world(self, which: int, limit: int, most: int, *ports: str) -> Iterator[tuple[World, str]]:
        """One, and the name's address, of which no verdict was told yet."""
        given = NetworkSandbox.process_limits

        def limits(sandbox: NetworkSandbox) -> dict[int, int]:
            is_it = sandbox._service.dials == (which == DIALER)
            return {**given(sandbox), **({limit: most} if is_it else {})}

        self._monkeypatch.setattr(NetworkSandbox, "process_limits", limits)
        made = world(self._where, _ALLOW, _DENY, hosts=_HOSTS, ports=ports)
        with made as here, Server(PUBLIC, 7, echo), Server(OTHER, 7, echo):
            yield here, here.find(NAME)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Limited:
    return Limited(monkeypatch, tmp_path)


def test_a_gateway_without_descriptors(limited: Limited) -> None:
    """It says so, carries what it has, and serves again once it has some."""
    with limited.world(GATEWAY, resource.RLIMIT_NOFILE, 24) as (here, address):
        carried = 0
        with ExitStack() as stack:
            for one in [stack.enter_context(_begun(here, address)) for _ in range(20)]:
                one.settimeout(QUIET)
                with suppress(OSError):
                    carried += one.recv(20) == b"hello"
            here.turn()
        assert 0 < carried < 10
        assert {(it.rule, it.code) for it in verdicts(here) if it.kind is NetworkEventKind.DENIED} <= {
            ("", Denial.GATEWAY_BUSY),
            ("api", Denial.GATEWAY_BUSY),
        }
        assert any(it.kind is NetworkEventKind.DENIED for it in verdicts(here))
        here.until(lambda: _serves(here, address))
        assert here.ended == []


def test_a_gateway_without_descriptors_for_a_connection_in(limited: Limited) -> None:
    """It is reset, and the machine goes on."""
    with limited.world(GATEWAY, resource.RLIMIT_NOFILE, 24, "18080:80") as (here, address), ExitStack() as stack:
        with here.guest.inside():
            stack.enter_context(socket.create_server(("0.0.0.0", 80)))
        for one in [stack.enter_context(_begun(here, address)) for _ in range(20)]:
            one.settimeout(QUIET)
            with suppress(OSError):
                one.recv(20)
        with socket.create_connection(("127.0.0.1", 18080)) as client:
            here.until(lambda: any(it.kind is NetworkEventKind.INBOUND_CLOSED for it in here.events))
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert here.ended == []


def test_a_dialer_without_descriptors(limited: Limited) -> None:
    """It can neither ask for a name's addresses nor whose they are nor connect, and says so."""
    with limited.world(DIALER, resource.RLIMIT_NOFILE, 24) as (here, address):
        slow = [str(here.resolve(it)) for it in SLOW]
        with full_server(OTHER, 9), ExitStack() as stack:
            for number in range(32):
                stack.enter_context(here.guest.connect(slow[number % len(slow)], 9))
            here.until(lambda: any(it.kind is NetworkEventKind.DENIED for it in here.events))
        here.until(lambda: _serves(here, address))
        denied = {(it.rule, it.code) for it in verdicts(here) if it.kind is NetworkEventKind.DENIED}
        codes = Denial.RESOLVE_FAILED, Denial.ADDRESS_NOT_PUBLIC, Denial.CONNECT_FAILED
        assert denied <= {(rule, code) for rule in ("api", "slow") for code in codes}
        assert here.ended == []


def test_servers_that_never_answer(here: World) -> None:
    """So many as there may be connections to them: another connection is served at once."""
    api, slow = str(here.resolve(NAME)), [str(here.resolve(it)) for it in SLOW]
    with full_server(OTHER, 9), ExitStack() as stack:
        for number in range(16 * len(SLOW)):
            stack.enter_context(here.guest.connect(slow[number % len(SLOW)], 9))
        with _begun(here, api) as connection:
            connection.settimeout(EVENT_PATIENCE)
            assert connection.recv(10) == b"hello"
        assert here.event(NetworkEventKind.OPENED).rule == "api"


def test_a_server_that_never_answers_a_client_that_tries_again(here: World) -> None:
    """More connections to it than a machine may have, each given up at once: others are served after a moment."""
    api, slow = str(here.resolve(NAME)), str(here.resolve(SLOW[0]))
    with full_server(OTHER, 9):
        for _ in range(MAX_CONNECTIONS + 6):
            with suppress(OSError):
                here.guest.connect(slow, 9).close()
            here.loop.turn(0)
        here.until(lambda: any(it.code == Denial.CONNECT_FAILED for it in here.events))
        here.until(lambda: _serves(here, api))
        refused = {(it.rule, it.code) for it in verdicts(here) if it.kind is NetworkEventKind.DENIED}
        assert refused <= {("", Denial.GATEWAY_BUSY), ("slow", Denial.CONNECT_FAILED)}
        assert here.ended == []


def test_what_is_open_at_the_end_has_its_bytes(here: World) -> None:
    """And what was refused just before is told."""
    with _begun(here, str(here.resolve(NAME))) as connection:
        assert connection.recv(10) == b"hello"
        assert here.resolve("other.example.org") is None
        here.network.close(here.loop)
    closed = [it for it in here.events if it.kind is NetworkEventKind.CLOSED]
    assert [(it.rule, it.sent, it.received) for it in closed] == [("api", 5, 5)]
    assert any(it.code == Denial.NO_RULE for it in here.events)


def _memory(where: Path, which: int) -> int:
    """The bytes of data that one has which serves a guest that has asked for a name (proc_pid_status(5), VmData)."""
    with world(where, _ALLOW, _DENY, hosts=_HOSTS) as here:
        here.resolve(NAME)
        return int(field(process_ids(here.network)[which], "VmData")[0]) * 1024


@BOTH
def test_one_without_memory(limited: Limited, tmp_path: Path, which: int) -> None:
    """It ends by that or refuses, which is told; a dialer serves on with fewer threads; nothing else ever passes."""
    (other := tmp_path / "other").mkdir()
    most = _memory(other, which) + (1 << 20)
    with limited.world(which, resource.RLIMIT_DATA, most) as (here, address):
        with ExitStack() as stack:
            for _ in range(400):
                with suppress(OSError):
                    connection = stack.enter_context(here.guest.connect(address, 80 if which == GATEWAY else 7, QUIET))
                    connection.sendall(b"GET /" + b"x" * 30_000)
                here.loop.turn(0)
                if here.ended or any(it.code == Denial.GATEWAY_BUSY for it in here.events):
                    break
        if which == GATEWAY:
            here.until(lambda: here.ended or any(it.code == Denial.GATEWAY_BUSY for it in here.events))
        with suppress(OSError), here.guest.connect(OTHER, 7, QUIET) as connection:
            connection.sendall(b"hello")
            assert connection.recv(1) == b""
        here.turn()
        if which == DIALER and not here.ended:
            here.until(lambda: _serves(here, address))


def _serves(here: World, address: str) -> bool:
    with suppress(OSError), _begun(here, address) as connection:
        return connection.recv(10) == b"hello"
    return False


#: What a gateway that was taken over could ask for, one for each code: rule, host and port. All ways to it are rows of
#: ADMITTED in tests/unit/network/policy/test_decisions.py.
ASKS = {
    "another host": (("api", "other.example.org", 7), Denial.NO_RULE),
    "another port": (("api", NAME, 22), Denial.PORT_NOT_ALLOWED),
    "another address": (("api", OTHER, 7), Denial.BAD_NAME),
}


class Usurper:
    """Stands where a gateway does, before a dialer of its own."""

    def __init__(self, asking: socket.socket, events: socket.socket) -> None:
        self._asking, self._events = asking, events

    def ask(self, packet: bytes) -> tuple[bytes, list[int]]:
        """What is answered, with the descriptors; nothing once the dialer has ended."""
        self._asking.send(packet)
        answer, found, _ = received(self._asking, 1024, 1)
        return answer, found

    def told(self) -> list[NetworkEventKind]:
        """What the supervisor is told, up to the dialer's end or to what makes it end that."""
        found: list[NetworkEventKind] = []
        while NetworkEventKind.BREACH not in found and (packet := self._events.recv(1024)):
            found.append(NetworkEvent.parse(packet).kind)
        return found


@pytest.fixture
def usurper(tmp_path: Path) -> Iterator[Usurper]:
    with ExitStack() as stack:
        walls = stack.enter_context(jail(tmp_path))
        stack.enter_context(own_network([PUBLIC, OTHER]))
        ends = [stack.enter_context(one) for _ in range(2) for one in pair()]
        asking, asked, ours, theirs = ends
        found = code_directories()
        for fd in found.values():
            stack.callback(os.close, fd)
        settings = {"/etc/hosts": _HOSTS.encode()}
        service = NetworkService(locate(PYTHON), found, settings, DIALER_MEMORY, DIALER_DESCRIPTORS, dials=True)
        dialer = NetworkProcess(walls, "dialer", service)
        stack.callback(dialer.close)
        plan = os.fdopen(memfd(network_bytes(Network(parse_rules(_ALLOW, _DENY))), name="plan"), "rb")
        with plan:
            dialer.start((plan.fileno(), asked.fileno(), theirs.fileno()))
        asked.close()
        theirs.close()
        for end in (asking, ours):
            end.settimeout(EVENT_PATIENCE)
        yield Usurper(asking, ours)


@pytest.mark.parametrize("what", ASKS)
def test_a_gateway_that_was_taken_over_dials_nothing_else(usurper: Usurper, what: str) -> None:
    ask, code = ASKS[what]
    with Server("0.0.0.0", 7, echo) as own, Server(OTHER, 7, echo) as other, nothing_passes():
        answer, found = usurper.ask(Ask(5, *ask).to_bytes())
        assert Reply.parse(answer).code == code
        assert usurper.told() == [NetworkEventKind.READY, NetworkEventKind.BREACH]
        assert (found, own.peers, other.peers) == ([], [], [])


def test_a_gateway_that_speaks_nonsense(usurper: Usurper) -> None:
    """All shapes of it are rows of tests/unit/network/test_messages.py."""
    with nothing_passes():
        with suppress(ConnectionResetError):
            assert usurper.ask(Ask(5, "api", f"{NAME}\0.evil.example.org", 7).to_bytes()) == (b"", [])
        assert usurper.told() == [NetworkEventKind.READY, NetworkEventKind.BREACH]


def test_a_gateway_that_was_taken_over_has_what_the_plan_allows(usurper: Usurper) -> None:
    """Which it may: the address is judged, and is told with the connection."""
    with Server(PUBLIC, 7, echo):
        answer, found = usurper.ask(Ask(5, "api", NAME, 7).to_bytes())
        with socket.socket(fileno=found[0]) as connection:
            connection.setblocking(True)
            connection.sendall(b"hello")
            assert connection.recv(10) == b"hello"
    assert Reply.parse(answer) == Reply(5, None, "api", PUBLIC)
