"""Each connection of a guest is held against the rules, and each verdict is told."""

import asyncio
import errno
import importlib
import os
import socket
import struct
from ipaddress import IPv4Address

import pytest

from mvmnix.network.gateway import process
from mvmnix.network.gateway.process import Events, Sockets
from mvmnix.network.gateway.relay import SpentError
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import PACKET_BYTES, pair
from mvmnix.network.supervisor_messages import HandedOver, NetworkEvent, NetworkEventKind, network_bytes
from mvmnix.plan.network import Network, parse_rules
from mvmnix.system.store import memfd
from tests.support.virtual_time import run
from tests.unit.network.gateway_world import ADDRESS, World, gateway_test, heard, many_descriptors
from tests.unit.network.hellos import hello, message, records, server_name

_OPENED, _CLOSED, _DENIED = NetworkEventKind.OPENED, NetworkEventKind.CLOSED, NetworkEventKind.DENIED
_HTTPS = "https://api.example.com"
_TCP = "tcp:8.8.8.8:53"
_OTHER = records(message((server_name(b"other.example"),)))
_ALERT = b"\x15\3\3\0\2\2"


@gateway_test(_HTTPS)
async def test_tls_is_carried_and_told(world: World) -> None:
    address = await world.resolve("api.example.com")
    assert [it.kind for it in await world.events()] == [NetworkEventKind.READY, NetworkEventKind.NAME]
    assert len(world.connections.options) == len(world.questions.options) == 6, "what is accepted has them too"
    guest = world.connect(address, 443)
    guest.send(hello()[:20])
    await world.turn()
    assert world.asked() == []
    guest.send(hello()[20:])
    await world.turn()
    server = await world.dial()
    assert heard(server) == hello()
    server.send(b"answer")
    await world.turn()
    assert heard(guest) == b"answer"
    opened = NetworkEvent(_OPENED, rule="allow-1", name="api.example.com", address=ADDRESS, port=443, connection=1)
    assert await world.events() == [opened]
    server.close()
    guest.close()
    (closed,) = await world.events()
    assert (closed.kind, closed.rule, closed.name, closed.address, closed.port, closed.code) == (
        *(_CLOSED, "allow-1", "api.example.com", ADDRESS, 443, ""),
    )
    assert (closed.sent, closed.received) == (len(hello()), 6)


@gateway_test(_TCP, "tcp:db.example.com:5432")
async def test_tcp_is_dialed_before_the_guest_says_anything(world: World) -> None:
    for host, port, rule in (("8.8.8.8", 53, "allow-1"), (await world.resolve("db.example.com"), 5432, "allow-2")):
        world.connect(host, port)
        await world.turn()
        (ask,) = world.asked()
        assert (ask.rule, ask.port) == (rule, port)
        assert ask.host == ("db.example.com" if rule == "allow-2" else host)


@gateway_test("http://a.example/v1,method=GET", "https://a.example:80")
async def test_requests_and_hellos_have_their_own_rules(world: World) -> None:
    address = await world.resolve("a.example")
    for said, rule in (
        (b"GET /v1 HTTP/1.1\r\nHost: a.example\r\n\r\n", "allow-1"),
        (records(message((server_name(b"a.example"),))), "allow-2"),
    ):
        guest = world.connect(address, 80)
        guest.send(said)
        await world.turn()
        server = await world.dial()
        assert (heard(server) or b"")[:4] == said[:4]
        opened, *_ = await world.events(_OPENED)
        assert opened.rule == rule


@gateway_test("http://a.example/v1,method=GET,connections=1")
async def test_requests_are_metered_by_their_rule(world: World) -> None:
    address = await world.resolve("a.example")
    for code in ("", "limit-connections"):
        world.connect(address, 80).send(b"GET /v1 HTTP/1.1\r\nHost: a.example\r\n\r\n")
        await world.turn()
        assert [ask.rule for ask in world.asked()] == ([] if code else ["allow-1"])
        assert [it.code for it in await world.events(_DENIED)] == ([code] if code else [])


@pytest.mark.parametrize(("method", "flag"), [("PUT", "--allow http://a.example,method=PUT"), ("!~" * 16, "")])
def test_a_refused_request_is_told_with_its_method(method: str, flag: str) -> None:
    @gateway_test("http://a.example/v1,method=GET")
    async def test(world: World) -> None:
        guest = world.connect(await world.resolve("a.example"), 80)
        guest.send(f"{method if flag else 'GET'} /v1 HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
        if not flag:
            await world.turn()
            await world.dial()
            guest.send(f"{method} /v1 HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
        await world.turn()
        await asyncio.sleep(60)
        (denied,) = await world.events(_DENIED)
        assert (denied.code, denied.protocol, denied.method, denied.flag) == ("method", "http", method, flag)

    test()


_REFUSALS: dict[str, tuple[tuple[str, int], bytes, NetworkEvent, bytes]] = {
    "no rule": (
        ("192.0.2.1", 443),
        b"",
        NetworkEvent(_DENIED, code="no-rule", name="192.0.2.1", address="192.0.2.1", port=443),
        b"",
    ),
    "a port without a rule": (
        ("8.8.8.8", 54),
        b"SSH-2.0-x",
        NetworkEvent(*(_DENIED, "", "port-not-allowed", "8.8.8.8", "8.8.8.8", 54)),
        b"",
    ),
    "no name asked for": (
        ("198.18.9.9", 443),
        b"",
        NetworkEvent(_DENIED, code="no-rule", name="198.18.9.9", port=443),
        b"",
    ),
    "another port": (
        ("api.example.com", 80),
        b"GET / HTTP/1.1\r\n",
        NetworkEvent(_DENIED, code="port-not-allowed", name="api.example.com", port=80),
        b"HTTP/1.1 403 Forbidden\r\n",
    ),
    "a request": (
        ("api.example.com", 443),
        b"GET / HTTP/1.1\r\n",
        NetworkEvent(_DENIED, "allow-1", "protocol", "api.example.com", port=443),
        b"HTTP/1.1 403 Forbidden\r\n",
    ),
    "neither": (
        ("api.example.com", 443),
        b"SSH-2.0-x\r\n",
        NetworkEvent(_DENIED, "allow-1", "protocol", "api.example.com", port=443),
        b"",
    ),
    "another name": (
        ("api.example.com", 443),
        _OTHER,
        NetworkEvent(_DENIED, "allow-1", "sni-mismatch", "api.example.com", port=443),
        _ALERT + b"\x70",
    ),
    "no name in it": (
        ("api.example.com", 443),
        records(message(())),
        NetworkEvent(_DENIED, "allow-1", "no-sni", "api.example.com", port=443),
        _ALERT + b"\x6d",
    ),
    "a hidden name": (
        ("api.example.com", 443),
        hello((0xFE0D, b"x")),
        NetworkEvent(_DENIED, "allow-1", "ech", "api.example.com", port=443),
        _ALERT + b"\x31",
    ),
    "a hello with a fault": (
        ("api.example.com", 443),
        records(message(kind=2)),
        NetworkEvent(_DENIED, "allow-1", "bad-client-hello", "api.example.com", port=443),
        _ALERT + b"\x0a",
    ),
    "a hello for requests": (
        ("a.example", 80),
        hello(),
        NetworkEvent(_DENIED, "allow-2", "protocol", "a.example", port=80),
        _ALERT + b"\x31",
    ),
}


@pytest.mark.parametrize("what", _REFUSALS)
def test_a_refusal_is_told_and_said(what: str) -> None:
    to, said, event, answer = _REFUSALS[what]

    @gateway_test(_HTTPS, "http://a.example", _TCP)
    async def test(world: World) -> None:
        addresses = {name: await world.resolve(name) for name in ("api.example.com", "a.example")}
        await world.events()
        guest = world.connect(addresses.get(to[0], to[0]), to[1])
        guest.send(said)
        await world.turn()
        assert (heard(guest) or b"")[: len(answer) or 1] == answer
        assert await world.events() == [event]
        guest.shutdown(socket.SHUT_WR)
        await asyncio.sleep(1)
        (accepted,) = world.connections.made
        assert accepted.was_reset == (not answer)
        assert world.asked() == []

    test()


@gateway_test(_HTTPS)
async def test_a_guest_that_goes_without_a_word_is_no_refusal(world: World) -> None:
    guest = world.connect(await world.resolve("api.example.com"), 443)
    await world.events()
    guest.close()
    assert await world.events() == []


@gateway_test(_HTTPS)
async def test_a_guest_that_says_nothing_is_refused_in_time(world: World) -> None:
    world.connect(await world.resolve("api.example.com"), 443)
    await asyncio.sleep(14.9)
    assert await world.events(_DENIED) == []
    await asyncio.sleep(0.2)
    assert [(it.code, it.rule) for it in await world.events(_DENIED)] == [("too-slow", "allow-1")]


@gateway_test("tcp:8.8.8.8:53,connections=1")
async def test_a_rule_has_so_many_connections_at_a_time(world: World) -> None:
    world.connect("8.8.8.8", 53)
    await world.turn()
    await world.refuse_dial(Denial.CONNECT_FAILED, ADDRESS)
    (denied,) = await world.events(_DENIED)
    assert (denied.code, denied.rule, denied.address, denied.flag) == ("connect-failed", "allow-1", ADDRESS, "")
    first = world.connect("8.8.8.8", 53)
    await world.turn()
    server = await world.dial()
    second = world.connect("8.8.8.8", 53)
    await world.turn()
    assert world.asked() == []
    assert [(it.code, it.rule) for it in await world.events(_DENIED)] == [("limit-connections", "allow-1")]
    first.close()
    server.close()
    second.close()
    await world.turn()
    world.connect("8.8.8.8", 53)
    await world.turn()
    assert len(world.asked()) == 1


@gateway_test(_TCP, _HTTPS)
async def test_connections_beyond_the_rate_are_told_once_in_a_second(world: World) -> None:
    address = await world.resolve("api.example.com")
    await world.events()
    for _ in range(3):
        world.connect("8.8.8.8", 53)
        await world.turn()
        await world.refuse_dial(Denial.LIMIT_CONNECTION_RATE)
    (denied,) = await world.events(_DENIED)
    assert (denied.code, denied.rule, denied.name, denied.flag) == ("limit-connection-rate", "allow-1", "8.8.8.8", "")
    world.gateway._too_fast._since -= 1
    guest = world.connect(address, 443)
    guest.send(hello())
    await world.turn()
    await world.refuse_dial(Denial.LIMIT_CONNECTION_RATE)
    assert heard(guest) == _ALERT + b"\x31"
    assert [it.rule for it in await world.events(_DENIED)] == ["allow-2"]


@gateway_test("tcp:8.8.8.8:53,bytes=4")
async def test_a_rule_has_so_many_bytes(world: World) -> None:
    guest = world.connect("8.8.8.8", 53)
    await world.turn()
    server = await world.dial()
    guest.send(b"four")
    await world.turn()
    assert heard(server) == b"four"
    server.send(b"!")
    await world.turn()
    assert heard(guest) == b""
    (closed,) = await world.events(_CLOSED)
    assert (closed.code, closed.rule, closed.sent) == ("limit-bytes", "allow-1", 4)
    world.connect("8.8.8.8", 53)
    await world.turn()
    assert world.asked() == []
    assert [(it.code, it.rule) for it in await world.events(_DENIED)] == [("limit-bytes", "allow-1")]


@gateway_test(_HTTPS)
async def test_a_refused_dial_answers_in_the_guests_protocol(world: World) -> None:
    address = await world.resolve("api.example.com")
    for code, alert in ((Denial.ADDRESS_METADATA, b"\x31"), (Denial.CONNECT_FAILED, b"\x50")):
        guest = world.connect(address, 443)
        guest.send(hello())
        await world.turn()
        await world.refuse_dial(code, "169.254.169.254", "deny-7")
        assert heard(guest) == _ALERT + alert
        (event,) = await world.events(_DENIED)
        assert (event.code, event.rule, event.address) == (code, "deny-7", "169.254.169.254")


@pytest.mark.parametrize(("error", "code"), [(MemoryError(), "gateway-busy"), (OSError(), ""), (ValueError("x"), "")])
def test_what_is_not_foreseen_ends_one_connection(
    capsys: pytest.CaptureFixture[str], error: Exception, code: str
) -> None:
    @gateway_test(_TCP)
    async def test(world: World) -> None:
        async def fail(*_: object) -> None:
            raise error

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(world.gateway, "_admitted", fail)
            guest = world.connect("8.8.8.8", 53)
            await world.turn()
        assert heard(guest) == b""
        assert world.connections.made[0].was_reset
        told = [(it.code, it.rule, it.name, it.port) for it in await world.events(_DENIED)]
        assert told == ([(code, "allow-1", "8.8.8.8", 53)] if code else [])
        world.connect("8.8.8.8", 53)
        await world.turn()
        assert len(world.asked()) == 1

    test()
    assert ("ValueError: x" in capsys.readouterr().err) == isinstance(error, ValueError)


@gateway_test(_TCP)
async def test_there_are_so_many_connections_at_a_time(world: World) -> None:
    with many_descriptors():
        for _ in range(1025):
            world.connections.connect_guest(("8.8.8.8", 53)).close()
        for _ in range(20):
            await world.turn()
        assert [(it.code, it.rule) for it in await world.events(_DENIED)] == [("gateway-busy", "")]
        assert [it.was_reset for it in world.connections.made] == [False] * 1024 + [True]


@gateway_test(_TCP)
async def test_there_are_so_many_connections_for_questions(world: World) -> None:
    asking = [world.questions.connect_guest(("198.19.255.1", 53)) for _ in range(65)]
    await world.turn()
    assert [it.code for it in await world.events(_DENIED)] == ["gateway-busy"]
    assert [it.was_reset for it in world.questions.made] == [False] * 64 + [True]
    for one in asking:
        one.close()


@gateway_test(_TCP)
async def test_without_descriptors_it_waits_and_tells_it_once(world: World) -> None:
    world.connections.is_short = True
    world.connect("8.8.8.8", 53)
    await asyncio.sleep(1.1)
    assert [it.code for it in await world.events(_DENIED)] == ["gateway-busy"]
    assert world.connections.looked == 6, "five times in a second"
    world.connections.is_short = False
    await asyncio.sleep(0.3)
    assert len(world.asked()) == 1


@gateway_test(_TCP)
async def test_nothing_is_accepted_while_the_supervisor_reads_nothing(world: World) -> None:
    for _ in range(5000):
        world.gateway._events.tell(NetworkEvent(NetworkEventKind.NAME))
    await asyncio.sleep(0.05)
    world.connect("8.8.8.8", 53)
    world.refused.send(_refused_packet())
    await world.turn()
    assert world.asked() == []
    while await world.events():
        pass
    for _ in range(2):
        await world.turn()
        assert len(world.asked()) == 1
        assert await world.events() == []
        world.connect("8.8.8.8", 53)


def _refused_packet(to: str = "8.8.4.4", protocol: int = 17, port: int = 443) -> bytes:
    """What the kernel tells of a packet (linux/netfilter/nfnetlink_log.h)."""
    packet = struct.pack(">BxHxxxxxB2x4x4s2xH", 0x45, 28, protocol, IPv4Address(to).packed, port)
    attribute = struct.pack("=HH", 4 + len(packet), 9) + packet
    return struct.pack("=IHHIIxxxx", 20 + len(attribute), 4 << 8, 0, 0, 0) + attribute


@gateway_test(_HTTPS, _TCP)
async def test_refused_packets_are_told(world: World) -> None:
    address = await world.resolve("api.example.com")
    await world.events()
    for packet in (
        *(_refused_packet(), _refused_packet(address), _refused_packet("8.8.8.8", 6), b"garbage"),
        *(_refused_packet(address, 6, 80), _refused_packet("198.18.9.9", 6)),
    ):
        world.refused.send(packet)
    await world.turn()
    assert [(it.code, it.name, it.port, it.flag) for it in await world.events()] == [
        ("not-tcp", "8.8.4.4", 443, ""),
        ("not-tcp", "api.example.com", 443, ""),
        ("port-not-allowed", "8.8.8.8", 443, "--allow tcp:8.8.8.8:443"),
        ("port-not-allowed", "api.example.com", 80, "--allow http://api.example.com"),
        ("no-rule", "198.18.9.9", 443, ""),
    ]
    world.gateway._packets_refused()
    assert await world.events() == []


def _hand_over(world: World, count: int) -> tuple[socket.socket, socket.socket]:
    pairs = [socket.socketpair() for _ in range(2)]
    socket.send_fds(world.supervisor, [HandedOver(7, 8080).to_bytes()], [near.fileno() for near, _ in pairs][:count])
    for near, far in pairs:
        near.close()
        far.setblocking(False)
    return pairs[0][1], pairs[1][1]


@gateway_test(_TCP)
async def test_a_connection_into_the_guest_is_carried(world: World) -> None:
    await world.events()
    world.gateway._handed_over()
    client, guest = _hand_over(world, 2)
    await world.turn()
    client.send(b"question")
    await world.turn()
    assert heard(guest) == b"question"
    guest.send(b"yes")
    await world.turn()
    assert heard(client) == b"yes"
    client.close()
    guest.close()
    closed = NetworkEvent(NetworkEventKind.INBOUND_CLOSED, port=8080, sent=3, received=8, slot=7)
    assert await world.events() == [closed]


@pytest.mark.parametrize("count", [0, 1])
def test_a_connection_into_the_guest_without_its_descriptors_is_given_back(count: int) -> None:
    @gateway_test(_TCP)
    async def test(world: World) -> None:
        await world.events()
        client, guest = _hand_over(world, count)
        await world.turn()
        assert [(it.kind, it.code, it.port, it.slot) for it in await world.events()] == [
            (_DENIED, "gateway-busy", 8080, 0),
            (NetworkEventKind.INBOUND_CLOSED, "", 8080, 7),
        ]
        assert (heard(client), heard(guest)) == (b"", b"")
        client.close()
        guest.close()

    test()


def test_it_ends_with_its_dialer_and_tells_what_was_carried() -> None:
    worlds = list[World]()

    @gateway_test(_TCP)
    async def test(world: World) -> None:
        worlds.append(world)
        guest = world.connect("8.8.8.8", 53)
        await world.turn()
        await world.dial()
        guest.send(b"four")
        await world.turn()
        await world.events()
        world.dialer.close()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1)

    test()
    assert [(it.kind, it.sent) for it in worlds[0].told] == [(_CLOSED, 4)]


@gateway_test(_TCP)
async def test_what_is_needed_later_is_imported_before_an_upgrade(world: World) -> None:
    imported = list[str]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(importlib, "import_module", imported.append)
        await asyncio.sleep(5.1)
    assert imported == ["mvmnix.network.gateway.resolver", "mvmnix.network.gateway.http_relay"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, ""),
        (SpentError(), "limit-bytes"),
        (OSError(errno.EMFILE, ""), "gateway-busy"),
        (OSError(errno.ENFILE, ""), "gateway-busy"),
        (ConnectionResetError(errno.ECONNRESET, ""), ""),
    ],
)
def test_why_a_connection_was_ended(error: OSError | None, code: str) -> None:
    assert process._code_of(error) == code


class Telling:
    """Events, and the end at which the supervisor reads them."""

    def __init__(self) -> None:
        self.supervisor, self._end = pair()
        self.supervisor.setblocking(False)
        self.gone: list[None] = []
        self.events = Events(self._end, lambda: self.gone.append(None))

    def tell(self, count: int) -> list[bool]:
        """Whether there was room before each of them, and after the last."""
        has_room = []
        for _ in range(count):
            has_room.append(self.events.has_room)
            self.events.tell(NetworkEvent(NetworkEventKind.NAME))
        return [*has_room, self.events.has_room]

    async def told(self) -> int:
        """How many the supervisor can read by now."""
        await asyncio.sleep(0)
        count = 0
        while True:
            try:
                self.supervisor.recv(PACKET_BYTES)
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        self.supervisor.close()
        self._end.close()


def test_events_are_gathered() -> None:
    async def main() -> None:
        telling = Telling()
        for _ in range(2):
            telling.tell(2)
            assert await telling.told() == 0
            await asyncio.sleep(0.011)
            assert await telling.told() == 2
        telling.close()

    run(main)


def test_events_wait_for_the_supervisor() -> None:
    async def main() -> None:
        telling = Telling()
        assert telling.tell(4096) == [True] * 4096 + [False]
        telling.events.flush()
        room = asyncio.ensure_future(telling.events.room())
        await asyncio.sleep(1)
        assert room.done(), "what the kernel takes is none that waits"
        telling.tell(4096)
        ending = asyncio.ensure_future(telling.events.all_told())
        count = await telling.told()
        while not ending.done():
            count += await telling.told()
        assert count + await telling.told() == 8192
        assert telling.gone == []
        telling.close()

    run(main)


def test_without_a_supervisor_nothing_waits() -> None:
    async def main() -> None:
        telling = Telling()
        telling.tell(1)
        telling.supervisor.close()
        await telling.events.all_told()
        assert telling.gone == [None]
        telling.close()

    run(main)


def test_a_process_serves_what_it_was_given_until_its_supervisor_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its filter is in force before it accepts anything."""
    filtered = list[int]()
    monkeypatch.setattr(process, "filter_system_calls", filtered.append)
    made = list[Sockets]()

    def keep(*sockets: socket.socket) -> Sockets:
        made.append(Sockets(*sockets))
        return made[0]

    monkeypatch.setattr(process, "Sockets", keep)
    supervisor, events = pair()
    far, dialer = pair()
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    given = [*listeners, *(socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)), dialer, events]
    supervisor.shutdown(socket.SHUT_WR)
    rules = memfd(network_bytes(Network(parse_rules([_TCP], []))), name="rules")
    with supervisor, far:
        process.main(99, rules, *(os.dup(one.fileno()) for one in given))
        assert NetworkEvent.parse(supervisor.recv(PACKET_BYTES)) == NetworkEvent(NetworkEventKind.READY)
    assert filtered == [99]
    for one in given:
        assert not os.get_blocking(one.fileno())
        one.close()
    for name in ("connections", "questions", "datagrams", "refused", "dialer", "events"):
        getattr(made[0], name).close()
