"""A dialer beside a gateway that may have been taken over: what it is asked, and how it ends."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from mvmnix.formats.addresses import AddressKind, kind_of
from mvmnix.network.dialer import process
from mvmnix.network.dialer.connecting import Connecting
from mvmnix.network.dialer.process import ProxyRefusedError, ask_proxy, may_be_proxy
from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.policy.explain import EXPLANATIONS
from mvmnix.network.sockets import PACKET_BYTES, pair
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import ConnectionRate, UpstreamProxy
from mvmnix.system.descriptors import received
from tests.patience import EVENT_PATIENCE, QUIET

type Done = Callable[[tuple[str, socket.socket] | None], None]
_NETWORK = Network(parse_rules(["tcp:api.example.com:7", "tcp:192.0.2.1:7", "tcp:quick.example.com:7"], []))


class Served:
    """A dialer's conversations."""

    def __init__(self, asks: socket.socket, events: socket.socket) -> None:
        self.asks, self.events = asks, events

    def event(self) -> NetworkEvent:
        return NetworkEvent.parse(self.events.recv(PACKET_BYTES))

    def ask(self, ask: Ask) -> Reply:
        self.asks.send(ask.to_bytes())
        return Reply.parse(self.asks.recv(PACKET_BYTES))


@contextmanager
def serving(network: Network = _NETWORK) -> Iterator[Served]:
    """One that serves, and has ended in the end."""
    (asks, asked), (events, told) = pair(), pair()
    with asks, asked, events, told:
        serving = threading.Thread(target=process.Dialer(asked, told, network).serve)
        serving.start()
        here = Served(asks, events)
        assert here.event().kind is NetworkEventKind.READY
        try:
            yield here
        finally:
            asks.close()
            serving.join()
            for thread in threading.enumerate():
                if thread.name.endswith("(_work)"):  # it would read a socket that is closed here
                    thread.join(EVENT_PATIENCE)


def test_it_ends_with_its_gateway() -> None:
    with serving() as here:
        assert here.ask(Ask(1, "allow-2", "192.0.2.1", 7)).code is Denial.ADDRESS_NOT_PUBLIC


def test_what_no_rule_admits_is_a_breach() -> None:
    with serving() as here:
        assert here.ask(Ask(1, "allow-1", "api.example.com", 8)).code is Denial.PORT_NOT_ALLOWED
        event = here.event()
        assert (event.kind, event.name, event.port) == (NetworkEventKind.BREACH, "api.example.com", 8)


def test_a_rate_holds_whatever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address is looked up and none is connected to beyond it; a breach is one still."""
    now, asked = [100.0], list[str]()

    def resolved(host: str, _port: int) -> tuple[str, ...]:
        asked.append(host)
        return ()

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(process, "_resolved", resolved)
    with serving(replace(_NETWORK, connection_rate=ConnectionRate(2, 3))) as here:

        def codes(count: int) -> list[Denial | None]:
            return [here.ask(Ask(1, "allow-1", "api.example.com", 7)).code for _ in range(count)]

        assert codes(4) == [Denial.RESOLVE_FAILED] * 3 + [Denial.LIMIT_CONNECTION_RATE]
        now[0] += 1
        assert codes(3) == [Denial.RESOLVE_FAILED] * 2 + [Denial.LIMIT_CONNECTION_RATE]
        assert len(asked) == 5
        assert here.ask(Ask(1, "allow-1", "api.example.com", 8)).code is Denial.PORT_NOT_ALLOWED
        assert here.event().kind is NetworkEventKind.BREACH


def test_a_packet_of_another_shape_is_a_breach_and_the_end() -> None:
    with serving() as here:
        here.asks.send(b"?")
        assert here.event().kind is NetworkEventKind.BREACH


def test_where_no_more_threads_can_be_started_those_there_serve_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, begun = threading.Thread.start, list[threading.Thread]()

    def start(thread: threading.Thread) -> None:
        begun.append(thread)
        if len(begun) > 2:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with serving() as here:
        for number in range(5):
            assert here.ask(Ask(number, "allow-2", "192.0.2.1", 7)).number == number
    assert len(begun) > 2


@pytest.mark.parametrize(("count", "found"), [(64, 64), (65, 0), (6000, 0)])
def test_a_name_has_no_more_addresses_than_a_host_has(count: int, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(0, 0, 0, "", (f"93.{number >> 8}.{number & 255}.1", 7)) for number in range(count)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answers)
    assert len(process._resolved("api.example.com", 7)) == found


def test_an_address_of_which_it_is_not_known_counts_as_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "no descriptors are left")

    monkeypatch.setattr(socket, "socket", full)
    assert process._is_own("93.184.216.34")


def test_where_sockets_can_have_any_address_the_kernel_s_choice_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its source for a packet to itself is the host's; for any other of 127.0.0.0/8 it takes the first."""
    monkeypatch.setattr(process, "_can_have", lambda _: True)
    assert process._is_own("127.0.0.1")
    assert not process._is_own("127.0.0.2")


@pytest.mark.parametrize(
    ("addresses", "code", "asked_of"),
    [
        ((), Denial.RESOLVE_FAILED, ""),
        (("93.184.216.34", "10.0.0.1"), Denial.ADDRESS_NOT_PUBLIC, "10.0.0.1"),
        (("93.184.216.34", "169.254.169.254"), Denial.ADDRESS_METADATA, "169.254.169.254"),
        (("93.184.216.35",), Denial.ADDRESS_NOT_PUBLIC, "93.184.216.35"),  # the host's own
        (("93.184.216.34", "2606:2800:220::1%eth0"), None, "2606:2800:220::1"),
        (("93.184.216.36",), Denial.CONNECT_FAILED, "93.184.216.36"),
    ],
)
def test_each_address_of_a_name_is_looked_at(
    addresses: tuple[str, ...], code: Denial | None, asked_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one is connected to."""

    def connect(_: Connecting, given: Sequence[str], port: int, done: Done) -> None:
        assert (given, port) == (addresses, 7)
        done(None if code is Denial.CONNECT_FAILED else (addresses[-1], socket.socket()))

    monkeypatch.setattr(process, "_resolved", lambda *_: addresses)
    monkeypatch.setattr(process, "_is_own", lambda address: address == "93.184.216.35")
    monkeypatch.setattr(Connecting, "connect", connect)
    with serving() as here:
        here.asks.send(Ask(1, "allow-1", "api.example.com", 7).to_bytes())
        packet, fds, _, _ = socket.recv_fds(here.asks, PACKET_BYTES, 2)
        for fd in fds:
            os.close(fd)
        assert Reply.parse(packet) == Reply(1, code, "allow-1", asked_of)
        assert len(fds) == (code is None)
        here.events.setblocking(False)
        if code is None:
            opened = NetworkEvent(NetworkEventKind.OPENED, "allow-1", "", "api.example.com", asked_of, 7, connection=1)
            assert here.event() == opened
        with pytest.raises(BlockingIOError):
            here.event()


def test_no_connection_is_made_that_the_supervisor_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair()

    def connect(_: Connecting, _given: Sequence[str], _port: int, done: Done) -> None:
        done(("93.184.216.34", near))

    monkeypatch.setattr(process, "_resolved", lambda *_: ("93.184.216.34",))
    monkeypatch.setattr(process, "_is_own", lambda _: False)
    monkeypatch.setattr(Connecting, "connect", connect)
    with serving() as here, far:
        here.events.close()
        here.asks.send(Ask(1, "allow-1", "api.example.com", 7).to_bytes())
        far.settimeout(EVENT_PATIENCE)
        assert far.recv(1) == b"", "it is closed"
        here.asks.setblocking(False)
        with pytest.raises(BlockingIOError):
            here.asks.recv(PACKET_BYTES)


def test_what_takes_all_memory_is_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(_host: str, _port: int) -> tuple[str, ...]:
        raise MemoryError

    monkeypatch.setattr(process, "_resolved", resolved)
    with serving() as here:
        for number in range(3):
            answer = here.ask(Ask(number, "allow-1", "api.example.com", 7))
            assert (answer.number, answer.code) == (number, Denial.RESOLVE_FAILED)


@pytest.mark.parametrize("of", ["a wildcard", "all hosts", "names"])
def test_silent_names_hold_up_no_other(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are threads, asked for at once; and each is answered in the end."""
    allow = {
        "a wildcard": [("tls:*.evil.example.com:7", [f"{number}.evil.example.com" for number in range(300)])],
        "all hosts": [("tls:*:7,acknowledge=all-hosts", [f"{number}.evil.example" for number in range(300)])],
        "names": [(f"tls:silent{number}.example:7", [f"silent{number}.example"] * 6) for number in range(50)],
    }[of]
    quick, free = "tls:quick.example.com:7", threading.Event()

    def resolved(host: str, _port: int) -> tuple[str, ...]:
        if not host.startswith("quick"):
            free.wait(EVENT_PATIENCE)
        return ()

    monkeypatch.setattr(process, "_resolved", resolved)
    network = Network(parse_rules([*(rule for rule, _ in allow), quick], []))
    asks = [(f"allow-{place}", host) for place, (_, hosts) in enumerate(allow, 1) for host in hosts]
    quick_rule = "allow-1" if of == "all hosts" else f"allow-{len(allow) + 1}"  # of one rule with the silent ones
    with serving(network) as here:
        for number, (rule, host) in enumerate(asks, 1):
            here.asks.send(Ask(number, rule, host, 7).to_bytes())
        for _ in range(3):
            assert here.ask(Ask(0, quick_rule, "quick.example.com", 7)).number == 0
        free.set()
        found = {Reply.parse(here.asks.recv(PACKET_BYTES)).number for _ in asks}
        assert found == set(range(1, len(asks) + 1))


# -- by a proxy: what it may answer, and that not a byte more than its answer's head is taken

ASKED = b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n"


@contextmanager
def proxy(*answers: bytes) -> Iterator[socket.socket]:
    """A connection to one that reads what it is asked, and then says this, a part at a time."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, suppress(OSError):
            assert theirs.recv(1000) == ASKED
            for answer in answers:
                theirs.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        yield ours
    thread.join()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 299 x\r\nVia: 1.1 proxy\r\n\r\n",
    ],
)
def test_what_comes_behind_the_head_stays(head: bytes) -> None:
    """A server may speak first."""
    with proxy(head + b"220 hello") as connection:
        ask_proxy(connection, "api.example.com", 443)
        assert connection.recv(100) == b"220 hello"


def test_a_head_in_parts() -> None:
    parts = [bytes([byte]) for byte in b"HTTP/1.1 200 ok\r\n\r\nrest"]
    with proxy(*parts) as connection:
        ask_proxy(connection, "api.example.com", 443)
        assert connection.recv(100, socket.MSG_WAITALL) == b"rest"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/2 200 ok\r\n\r\n",
        b"HTTP/1.1 2000 ok\r\n\r\n",
        b" HTTP/1.1 200 ok\r\n\r\n",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 200 ok\r\n",
        b"HTTP/1.1 200 ok\n\n",
        b"",
        b"HTTP/1.1 200 " + b"x" * 20_000,
    ],
)
def test_anything_else_is_no_connection(answer: bytes) -> None:
    with proxy(answer) as connection, pytest.raises(ProxyRefusedError):
        ask_proxy(connection, "api.example.com", 443)


def test_a_slow_proxy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PROXY_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        ask_proxy(ours, "api.example.com", 443)


#: An address of each kind, and whether a proxy may be there that the plan names by it. By a name: a public one alone.
PLACES = {
    AddressKind.PUBLIC: ("93.184.216.34", True),
    AddressKind.PRIVATE: ("10.0.0.7", True),
    AddressKind.SHARED: ("100.64.0.1", True),
    AddressKind.LOOPBACK: ("127.0.0.1", True),
    AddressKind.LINK_LOCAL: ("169.254.0.7", False),
    AddressKind.UNSPECIFIED: ("0.0.0.0", False),
    AddressKind.MULTICAST: ("224.0.0.1", False),
    AddressKind.METADATA: ("169.254.169.254", False),
    AddressKind.DOCUMENTATION: ("192.0.2.1", False),
    AddressKind.BENCHMARK: ("198.18.0.1", False),
    AddressKind.RESERVED: ("240.0.0.1", False),
}
#: The same by IPv6: loopback's, a private one, one of this network's routers; IPv4 addresses that are carried.
CARRIED = ("::1", "fd00::7", "fe80::1", "::ffff:10.0.0.7", "::ffff:127.0.0.1", "64:ff9b::10.0.0.7", "2002:7f00:1::")


@pytest.mark.parametrize("kind", AddressKind)
def test_where_a_proxy_may_be(kind: AddressKind) -> None:
    address, may = PLACES[kind]
    assert kind_of(address) is kind
    assert may_be_proxy(address, address, is_own=False) is may
    assert may_be_proxy("proxy.example.com", address, is_own=False) is (kind is AddressKind.PUBLIC)


@pytest.mark.parametrize("address", CARRIED)
def test_a_name_leads_to_no_such_address_by_ipv6(address: str) -> None:
    assert not may_be_proxy("proxy.example.com", address, is_own=False)


def test_a_name_leads_to_no_address_of_this_host() -> None:
    assert not may_be_proxy("proxy.example.com", "93.184.216.34", is_own=True)
    assert may_be_proxy("93.184.216.34", "93.184.216.34", is_own=True)


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.216.34", "10.0.0.7"), ("93.184.216.34", "::1")])
def test_all_addresses_of_a_proxys_name_are_judged(monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]) -> None:
    """A server that listens on this host's loopback is not connected to by the resolver's word."""
    monkeypatch.setattr(process, "_resolved", lambda *_: addresses)
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = UpstreamProxy("proxy.example.com", server.getsockname()[1])
        ((reply, connection),) = dialed(proxy, Ask(7, "allow-1", "api.example.com", 443))
        assert (reply.code, reply.address, connection) == (Denial.PROXY_ADDRESS, addresses[-1], None)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "--network-proxy ADDRESS:PORT" in EXPLANATIONS[Denial.PROXY_ADDRESS].hint


@pytest.mark.parametrize("host", ["localhost", "proxy.localhost", "LOCALHOST."])
def test_this_host_is_not_named_by_a_name(host: str) -> None:
    with pytest.raises(ValueError, match=r"named by its address, as in 127\.0\.0\.1"):
        UpstreamProxy.parse(f"{host}:3128")


def dialed(proxy: UpstreamProxy, *asks: Ask) -> Iterator[tuple[Reply, socket.socket | None]]:
    """What a dialer with this proxy answers to each of these."""
    plan = Network(parse_rules(["https://api.example.com"], []), proxy=proxy)
    (answers, asked), (told, events) = pair(), pair()
    with answers, asked, told, events:
        one = process.Dialer(asked, events, plan)
        for ask in asks:
            one.dial(ask)
            packet, found, _ = received(answers, PACKET_BYTES, 1)
            yield Reply.parse(packet), socket.socket(fileno=found[0]) if found else None


@pytest.mark.parametrize(
    ("answer", "code"), [(b"HTTP/1.1 200 ok\r\n\r\nhi", None), (b"HTTP/1.1 502 no\r\n\r\n", Denial.PROXY_REFUSED)]
)
def test_a_dialer_with_a_proxy(answer: bytes, code: Denial | None) -> None:
    """The name isn't resolved here: it has no address that this host could know."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = UpstreamProxy("127.0.0.1", server.getsockname()[1])
        said: list[bytes] = []

        def serve() -> None:
            with server.accept()[0] as accepted:
                said.append(accepted.recv(1000))
                accepted.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        # what the rule doesn't allow isn't asked for
        (reply, connection), (other, none) = dialed(
            proxy, Ask(7, "allow-1", "api.example.com", 443), Ask(8, "allow-1", "other.example.com", 443)
        )
        thread.join()
        assert (reply, said) == (Reply(7, code, "allow-1", "127.0.0.1"), [ASKED])
        assert (connection is None) == (code is not None)
        if connection is not None:
            connection.setblocking(True)
            assert connection.recv(10) == b"hi"
            connection.close()
        assert (other.code, none) == (Denial.NO_RULE, None)


def test_a_proxy_that_is_nowhere_it_may_be() -> None:
    ((reply, connection),) = dialed(UpstreamProxy("169.254.169.254", 80), Ask(7, "allow-1", "api.example.com", 443))
    assert (reply.code, reply.address, connection) == (Denial.PROXY_ADDRESS, "169.254.169.254", None)


def test_it_ends_once_a_connection_that_was_told_of_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    hand_on = socket.send_fds

    def send_fds(*given: object) -> int:
        begun.set()
        go.wait(EVENT_PATIENCE)
        return hand_on(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_LAST", EVENT_PATIENCE)
    (asks, asked), (events, told), (near, far) = pair(), pair(), socket.socketpair()
    with asks, asked, events, told, near, far:
        dialer = process.Dialer(asked, told, _NETWORK)
        serving = threading.Thread(target=dialer.serve)
        serving.start()
        assert NetworkEvent.parse(events.recv(PACKET_BYTES)).kind == NetworkEventKind.READY
        monkeypatch.setattr(socket, "send_fds", send_fds)
        replying = threading.Thread(
            target=dialer._connected, args=(Ask(1, "allow-2", "192.0.2.1", 7), "", ("192.0.2.1", near))
        )
        replying.start()
        assert begun.wait(EVENT_PATIENCE)
        asks.shutdown(socket.SHUT_WR)
        assert dialer._ended.wait(EVENT_PATIENCE)
        serving.join(QUIET)
        assert serving.is_alive()
        go.set()
        for one in (serving, replying):
            one.join(EVENT_PATIENCE)
        assert Reply.parse(asks.recv(PACKET_BYTES)).code is None
        dialer._connected(Ask(2, "allow-2", "192.0.2.1", 7), "", ("192.0.2.1", far))
        assert NetworkEvent.parse(events.recv(PACKET_BYTES)).kind == NetworkEventKind.OPENED
        events.setblocking(False)
        with pytest.raises(BlockingIOError):
            events.recv(PACKET_BYTES)


@pytest.mark.parametrize("error", [OSError(errno.ETOOMANYREFS, "Too many references"), MemoryError()])
def test_a_connection_that_can_not_be_handed_on_is_answered_without_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_fds(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "send_fds", send_fds)
    near, far = socket.socketpair()
    (asks, asked), (events, told) = pair(), pair()
    with asks, asked, events, told, near, far:
        dialer = process.Dialer(asked, told, _NETWORK)
        dialer._connected(Ask(1, "allow-2", "192.0.2.1", 7), "", ("192.0.2.1", near))
        opened = NetworkEvent.parse(events.recv(PACKET_BYTES))
        assert (opened.kind, opened.connection) == (NetworkEventKind.OPENED, 1)
        packet, fds, _ = received(asks, PACKET_BYTES, 1)
        reply = Reply.parse(packet)
        assert (reply.number, reply.code, fds) == (1, None, [])
        assert far.recv(1) == b"", "it is closed"
