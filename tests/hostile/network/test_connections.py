"""Connections of a guest through the real gateway and dialer, to servers that have global addresses.

What a rule lets through, and what not, are rows of the corpus beside this file.
"""

import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mvmnix.network.policy.decisions import Denial
from mvmnix.network.supervisor_messages import NetworkEventKind
from tests.hostile.network.clients import echo, read_all
from tests.hostile.network.servers import http
from tests.hostile.network.world import OTHER, PUBLIC, Server, World, world
from tests.patience import EVENT_PATIENCE, POLL, QUIET
from tests.unit.network.hellos import hello
from tests.unit.network.processes import process_ids

pytestmark = pytest.mark.root("it makes network namespaces of its own")

_HOSTS = f"""
{PUBLIC} api.example.com www.example.com
{OTHER} other.example.org
"""
_ALLOW = (
    "https://api.example.com",
    "http://api.example.com",
    "http://www.example.com/simple,method=GET",
    f"tcp:{PUBLIC}:7",
    "tcp:www.example.com:5432",
    "tcp:api.example.com:1000,bytes=1000",
    "tcp:api.example.com:1001,connections=1",
    "tcp:api.example.com:1002,rate=100KiB",
    "tls:api.example.com:1003,bytes=1000",
    "tcp:api.example.com:1005,rate=100KiB",
    "http://www.example.com:1004,method=M-SEARCH",
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    where = tmp_path_factory.mktemp("world")
    with world(where, _ALLOW, ["denied.example.com"], hosts=_HOSTS) as made:
        yield made


@pytest.fixture(autouse=True)
def forgotten(here: World) -> None:
    here.forget()


def ended(connection: socket.socket) -> bool:
    """Whether nothing more comes over it."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def reached(here: World, address: str, port: int) -> bool:
    """Whether a server answers the guest."""
    try:
        with here.guest.connect(address, port, 0.5) as connection:
            connection.sendall(b"x")
            return connection.recv(1) != b""
    except OSError:
        return False


def test_an_allowed_address_is_reached_and_others_are_not(here: World) -> None:
    with Server(PUBLIC, 7, echo), Server(OTHER, 7, echo):
        with here.guest.connect(PUBLIC, 7) as connection:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        closed = here.event(NetworkEventKind.CLOSED)
        assert (closed.rule, closed.address, closed.port, closed.sent, closed.received) == ("allow-4", PUBLIC, 7, 5, 5)
        for address, port, code, flag in (
            (OTHER, 7, Denial.NO_RULE, f"--allow tcp:{OTHER}:7"),
            (PUBLIC, 8, Denial.PORT_NOT_ALLOWED, f"--allow tcp:{PUBLIC}:8"),
            ("169.254.169.254", 80, Denial.NO_RULE, "--allow tcp:169.254.169.254:80,acknowledge=metadata"),
        ):
            with pytest.raises(ConnectionRefusedError):
                here.guest.connect(address, port)
            denied = here.event(NetworkEventKind.DENIED, name=address, port=port)
            assert (denied.code, denied.flag) == (code, flag)


def test_what_is_not_tcp_is_refused_at_once_and_told(here: World) -> None:
    with here.guest.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(EVENT_PATIENCE)
        asking.connect((OTHER, 443))
        asking.send(b"a QUIC packet")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(1)
    denied = here.event(NetworkEventKind.DENIED, name=OTHER, port=443)
    assert (denied.code, denied.flag) == (Denial.NOT_TCP, "")


def test_names_are_resolved_as_the_rules_say(here: World) -> None:
    address = here.resolve("api.example.com")
    assert address is not None
    assert address.startswith("198.18.")
    assert here.resolve("API.example.com.") == address
    assert here.resolve("other.example.org") is None
    assert here.resolve("denied.example.com") is None
    assert here.resolve("api.example.com", kind="AAAA") == ""
    denied = here.event(NetworkEventKind.DENIED, name="other.example.org")
    assert (denied.code, denied.flag) == (Denial.NO_RULE, "--allow https://other.example.org")
    assert here.event(NetworkEventKind.DENIED, name="denied.example.com").code == Denial.DENIED_BY_RULE
    assert here.event(NetworkEventKind.NAME, name="api.example.com").rule == "allow-1"


def _ask(here: World, name: str, request: bytes, port: int = 80) -> bytes:
    with here.guest.connect(str(here.resolve(name)), port) as connection:
        connection.sendall(request)
        return read_all(connection)


@pytest.mark.parametrize(("name", "port"), [("api.example.com", 8080), ("api.example.com", 5432)])
def test_a_port_without_a_rule_is_refused_before_there_is_a_connection(here: World, name: str, port: int) -> None:
    """Whether another name has one at it or not."""
    address = str(here.resolve(name))
    with pytest.raises(ConnectionRefusedError):
        here.guest.connect(address, port)
    denied = here.event(NetworkEventKind.DENIED)
    assert (denied.code, denied.name, denied.port) == (Denial.PORT_NOT_ALLOWED, name, port)
    assert denied.flag == f"--allow tcp:{name}:{port}"


def test_a_server_that_is_not_there(here: World) -> None:
    address = str(here.resolve("www.example.com"))
    with pytest.raises(ConnectionResetError), here.guest.connect(address, 5432) as connection:
        connection.recv(1)
    denied = here.event(NetworkEventKind.DENIED, name="www.example.com")
    assert (denied.code, denied.address, denied.port) == (Denial.CONNECT_FAILED, PUBLIC, 5432)


def test_a_server_may_speak_first_and_half_close(here: World) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"last words"
        connection.close()

    with Server(PUBLIC, 5432, serve), here.guest.connect(str(here.resolve("www.example.com")), 5432) as connection:
        assert read_all(connection) == b"220 ready\r\n"
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        closed = here.event(NetworkEventKind.CLOSED)
    assert (closed.sent, closed.received) == (10, 11)


def test_a_reset_is_passed_on(here: World) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Server(PUBLIC, 5432, serve), here.guest.connect(str(here.resolve("www.example.com")), 5432) as connection:
        connection.sendall(b"xx")
        with pytest.raises(ConnectionResetError):
            connection.recv(10)


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "ends"])
def test_urgent_data_hides_nothing(here: World, ends: bool) -> None:
    """What splice(2) takes for the end, or for nothing: the bytes behind a mark arrive, and the gateway rests."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        connection.send(b"!", socket.MSG_OOB)
        connection.sendall(b"world")
        if ends:
            connection.shutdown(socket.SHUT_WR)
        read_all(connection)

    with Server(PUBLIC, 5432, serve), here.guest.connect(str(here.resolve("www.example.com")), 5432) as connection:
        got = b""
        while b"world" not in got:
            more = connection.recv(100)
            assert more
            got += more
        before = _processor_seconds(here)
        time.sleep(QUIET)
        assert _processor_seconds(here) - before < 0.2
        assert not ends or connection.recv(100) == b""


def _processor_seconds(here: World) -> float:
    """Of the gateway (proc_pid_stat(5))."""
    fields = Path(f"/proc/{process_ids(here.network)[0]}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_connections_opened_anew_share_the_rate_of_a_rule(here: World) -> None:
    """100 KiB in a second: none of them begins with bytes for which there is no time yet."""
    address, got = str(here.resolve("api.example.com")), list[int]()

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(bytes(1 << 20))

    with Server(PUBLIC, 1005, serve), ExitStack() as stack:
        connections = [stack.enter_context(here.guest.connect(address, 1005)) for _ in range(20)]
        begun = time.monotonic()
        while (seconds := time.monotonic() - begun) < 2:
            for one in select.select(connections, [], [], POLL)[0]:
                got.append(len(one.recv(1 << 20)))
        seconds = time.monotonic() - begun
    assert 0 < sum(got) < 300_000 + 102_400 * seconds


def test_the_bytes_of_a_rule_end(here: World) -> None:
    with Server(PUBLIC, 1000, echo), here.guest.connect(str(here.resolve("api.example.com")), 1000) as connection:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(100):
                connection.sendall(bytes(100))
                assert connection.recv(100)
        assert here.event(NetworkEventKind.CLOSED).code == Denial.LIMIT_BYTES
        address = str(here.resolve("api.example.com"))
        with pytest.raises(ConnectionResetError), here.guest.connect(address, 1000) as another:
            another.recv(1)
    assert here.event(NetworkEventKind.DENIED).code == Denial.LIMIT_BYTES


def test_what_is_said_first_is_of_the_rules_bytes(here: World) -> None:
    """200 hellos at once of more bytes than the rule has for all."""
    address, got = str(here.resolve("api.example.com")), list[int]()

    def serve(connection: socket.socket) -> None:
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                got.append(len(data))

    with Server(PUBLIC, 1003, serve), ExitStack() as stack:
        for one in [stack.enter_context(here.guest.connect(address, 1003)) for _ in range(200)]:
            one.sendall(hello())
        most = 1000 // len(hello())
        here.until(lambda: sum(it.code == Denial.LIMIT_BYTES for it in here.events) == 200 - most)
    assert 0 < sum(got) <= 1000


def test_a_method_is_any_that_a_rule_may_name(here: World) -> None:
    request = b"M-SEARCH / HTTP/1.1\r\nHost: www.example.com:1004\r\n\r\n"
    with Server(PUBLIC, 1004, http), here.guest.connect(str(here.resolve("www.example.com")), 1004) as connection:
        connection.sendall(request)
        assert connection.recv(4096).endswith(b"you asked M-SEARCH / HTTP/1.1")
        assert b"[method]" in _ask(here, "www.example.com", request.replace(b"M-SEARCH", b"GET"), 1004)


def test_the_connections_of_a_rule(here: World) -> None:
    address = str(here.resolve("api.example.com"))
    with Server(PUBLIC, 1001, echo), here.guest.connect(address, 1001) as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with pytest.raises(ConnectionResetError), here.guest.connect(address, 1001) as second:
            second.recv(1)
        assert here.event(NetworkEventKind.DENIED).code == Denial.LIMIT_CONNECTIONS


def test_the_rate_of_a_rule(here: World) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(bytes(200_000))

    begun = time.monotonic()
    with Server(PUBLIC, 1002, serve), here.guest.connect(str(here.resolve("api.example.com")), 1002) as connection:
        assert len(read_all(connection)) == 200_000
    assert time.monotonic() - begun > 1.0


def test_the_processes_have_nothing_but_what_they_need(here: World) -> None:
    for pid in process_ids(here.network):
        assert not os.listdir(f"/proc/{pid}/root/tmp") if os.path.exists(f"/proc/{pid}/root/tmp") else True  # noqa: PTH110, PTH208
        status = Path(f"/proc/{pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "Seccomp:\t2" in status


def test_without_its_gateway_a_machine_reaches_nothing(tmp_path: Path) -> None:
    for victim in (0, 1):
        with world(tmp_path / str(victim), [f"tcp:{PUBLIC}:7"]) as here, Server(PUBLIC, 7, echo):
            with here.guest.connect(PUBLIC, 7) as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
                os.kill(process_ids(here.network)[victim], 9)
                here.until(lambda: here.ended)
                assert ended(connection)
            assert not reached(here, PUBLIC, 7)
            assert here.ended == [None]


def test_a_gateway_that_is_killed_leaves_no_orphans(tmp_path: Path) -> None:
    """Bytes that a server doesn't take are not the host's to keep (ip-sysctl, tcp_max_orphans)."""
    over = threading.Event()

    def silent(_connection: socket.socket) -> None:
        over.wait(EVENT_PATIENCE)

    def connections() -> list[str]:
        """The host's, in whatever state."""
        return Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]

    with world(tmp_path, [f"tcp:{PUBLIC}:7"]) as here, Server(PUBLIC, 7, silent), ExitStack() as stack:
        stack.callback(over.set)
        connection = stack.enter_context(here.guest.connect(PUBLIC, 7, QUIET))
        with suppress(TimeoutError):
            while True:
                connection.sendall(bytes(1 << 16))
        assert len(connections()) == 1
        os.kill(process_ids(here.network)[0], signal.SIGKILL)
        here.until(lambda: here.ended and connections() == [])


def test_connections_that_ended_leave_nothing(here: World) -> None:
    def taken() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in process_ids(here.network)]

    def closed() -> int:
        return sum(it.kind is NetworkEventKind.CLOSED and it.rule == "allow-4" for it in here.events)

    def connect(count: int) -> None:
        for _ in range(count):
            with here.guest.connect(PUBLIC, 7) as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"

    with Server(PUBLIC, 7, echo):
        connect(5)
        here.until(lambda: closed() == 5)
        before = taken()
        connect(100)
        here.until(lambda: closed() == 105)
        assert all(map(int.__le__, taken(), before)), "others' connections may end meanwhile"
