"""Corpus: too much of it, connections, questions and bytes beyond what a machine may have, and peers that are slow."""

import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from mvmnix.network.host.namespace_setup import GATEWAY
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import MAX_CONNECTIONS
from mvmnix.network.supervisor_messages import NetworkEventKind
from mvmnix.plan.network_endpoints import ConnectionRate
from tests.hostile.network.clients import echo, turning
from tests.hostile.network.corpus import verdicts
from tests.hostile.network.servers import NameServer, full_server
from tests.hostile.network.wire import Capture, RawSocket
from tests.hostile.network.world import OTHER, PUBLIC, Server, World, ip, world
from tests.patience import EVENT_PATIENCE, QUIET, until
from tests.unit.network.hellos import hello
from tests.unit.network.processes import process_ids
from tests.unit.network.raw_guest import frame, tcp

pytestmark = pytest.mark.root("it makes network namespaces of its own")

API, SLOW, ENDLESS, RESOLVER = "api.example.com", "slow.example.com", "endless.example.com", "9.9.9.9"
_ALLOW = (
    f"https://{API},id=api",
    f"http://{API},id=http",
    f"tcp:{API}:7,id=echo",
    f"tcp:{SLOW}:7,id=slow",
    f"tcp:{ENDLESS}:7,id=endless",
    "https://*.wild.example.com,id=wild",
)
_MANY = 10_000


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    where, resolver = tmp_path_factory.mktemp("world"), f"nameserver {RESOLVER}"
    hosts = f"{PUBLIC} {API}\n{OTHER} {SLOW} {ENDLESS}"
    addresses, rate = (PUBLIC, OTHER, RESOLVER), ConnectionRate(10_000, 65_535)
    made = world(where, _ALLOW, hosts=hosts, addresses=addresses, resolver=resolver, rate=rate)
    with made as here, Server(PUBLIC, 7, echo):
        yield here


@pytest.fixture
def api(here: World) -> str:
    return here.find(API)


def _used(here: World) -> list[tuple[int, int]]:
    """Bytes of memory and descriptors of the gateway and the dialer."""
    found = []
    for pid in process_ids(here.network):
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        found.append((resident, len(os.listdir(f"/proc/{pid}/fd"))))  # noqa: PTH208
    return found


def _assert_serves(here: World, address: str) -> None:
    """At once: what a guest has done to itself is over."""
    with here.guest.connect(address, 7, 5) as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"


def _closed(here: World, rule: str) -> int:
    """How many connections by a rule have ended."""
    return sum(it.kind is NetworkEventKind.CLOSED and it.rule == rule for it in here.events)


def _counts(here: World) -> Counter[tuple[str, str, str]]:
    """How often there was which verdict."""
    return Counter((it.kind.value, it.rule, it.code) for it in here.events if it.kind is not NetworkEventKind.CLOSED)


@contextmanager
def _connections(here: World, address: str, port: int, count: int) -> Iterator[Sequence[socket.socket]]:
    """So many at once, which the guest's kernel has."""
    with ExitStack() as stack:
        with here.guest.inside():
            made = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for one in made:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect((address, port))
        waiting = select.poll()
        for one in made:
            waiting.register(one, select.POLLOUT)
        left = {one.fileno() for one in made}
        while left:
            for fd, _ in waiting.poll(EVENT_PATIENCE * 1000):
                left.discard(fd)
                waiting.unregister(fd)
        for one in made:
            one.settimeout(EVENT_PATIENCE)
        yield made


def test_ten_thousand_connections(here: World, api: str) -> None:
    """All of them are carried, in bursts, and neither process has more of anything afterwards."""
    burst = 200
    with _connections(here, api, 7, MAX_CONNECTIONS) as made, turning(here):  # so that both have what they keep
        for one in made:
            one.sendall(b"x")
            assert one.recv(1) == b"x"
    here.until(lambda: _closed(here, "echo") == MAX_CONNECTIONS)
    before = _used(here)
    with turning(here):
        for _ in range(_MANY // burst):
            with _connections(here, api, 7, burst) as made:
                for one in made:
                    one.sendall(b"x")
                for one in made:
                    assert one.recv(1) == b"x"
    here.until(lambda: _closed(here, "echo") == _MANY + MAX_CONNECTIONS)
    assert _counts(here) == {("opened", "echo", ""): _MANY + MAX_CONNECTIONS}
    # each closes its sockets a moment after it said so
    here.until(lambda: all(now <= then for (_, now), (_, then) in zip(_used(here), before, strict=True)))
    for (memory, _), (memory_before, _) in zip(_used(here), before, strict=True):
        assert memory - memory_before < 4 << 20
    # and a verdict that is no such one
    with pytest.raises(ConnectionRefusedError):
        here.guest.connect(api, 8)
    here.until(lambda: _counts(here)["denied", "", Denial.PORT_NOT_ALLOWED] == 1)


def test_as_many_connections_as_a_machine_may_have(here: World, api: str) -> None:
    """In one burst: none of them is refused, the one after them is."""
    with _connections(here, api, 7, MAX_CONNECTIONS) as made:
        with turning(here):
            for one in made:
                one.sendall(b"x")
            for one in made:
                assert one.recv(1) == b"x"
            with pytest.raises(ConnectionResetError), here.guest.connect(api, 7) as more:
                more.recv(1)
        expected = {("opened", "echo", ""): MAX_CONNECTIONS, ("denied", "", Denial.GATEWAY_BUSY): 1}
        here.until(lambda: _counts(here) == expected)
    here.until(lambda: _closed(here, "echo") == MAX_CONNECTIONS)
    _assert_serves(here, api)


def test_clients_that_say_little(here: World, api: str) -> None:
    """Slowloris: more than a machine may have, with a hello or a head a byte at a time, or nothing at all."""
    # the last byte never comes: on a loaded machine all others may be there before the gateway's time is up
    said = (hello()[:-1], b"GET / HTTP/1.1\r\nHost: api.example.com\r\n" + b"X: y\r\n" * 50)
    more, begun = MAX_CONNECTIONS + 100, time.monotonic()
    refused = {("denied", rule, Denial.TOO_SLOW) for rule in ("api", "http")} | {("denied", "", Denial.GATEWAY_BUSY)}
    with ExitStack() as stack:
        drips = [stack.enter_context(_connections(here, api, port, more // 2)) for port in (443, 80)]
        steps = count()

        def drip() -> None:
            at = next(steps)
            for connections, words in zip(drips, said, strict=True):
                for one in connections[:50]:
                    with suppress(OSError):
                        one.send(words[at : at + 1])
            here.loop.turn(QUIET)

        until(lambda: _counts(here).total() >= more, here.describe, drip)
        assert set(_counts(here)) == refused
        assert _counts(here).total() == more
        assert time.monotonic() - begun > 10
    _assert_serves(here, api)


def test_connections_that_are_half_open(here: World, api: str) -> None:
    """20,000 SYNs from a guest that never answers: the kernel keeps them, within bounds, and others get through."""
    before = _used(here)
    with Capture(PUBLIC) as capture:
        with here.guest.inside():
            raw = RawSocket("eth0")
            ip("address", "flush", "dev", "eth0")
        capture.drain()
        for number in range(20_000):
            with suppress(BlockingIOError):
                raw.send(frame(tcp(api, 7, own=1024 + number, seq=number)))
        raw.close()
        here.guest.configure()
        assert capture.frames(0.05, b"none") == []
    _assert_serves(here, api)
    here.turn()
    assert _counts(here) == {("opened", "echo", ""): 1}
    for (memory, descriptors), (memory_before, descriptors_before) in zip(_used(here), before, strict=True):
        assert memory - memory_before < 2 << 20
        assert descriptors <= descriptors_before + 4


def test_a_slow_server_is_waited_for_by_its_own_connections_alone(here: World, api: str) -> None:
    """A host that drops what it gets: more connections to it than the dialer does at a time."""
    slow = str(here.resolve(SLOW))
    with ExitStack() as stack:
        stack.enter_context(full_server(OTHER, 7))
        stack.enter_context(_connections(here, slow, 7, 100))
        for _ in range(20):
            _assert_serves(here, api)


def test_a_server_that_never_ends_and_a_guest_that_does_not_read(here: World, api: str) -> None:
    sent: list[int] = []

    def endless(connection: socket.socket) -> None:
        sent.append(0)
        while True:
            sent[-1] += connection.send(bytes(1 << 20))

    before = _used(here)
    with Server(OTHER, 7, endless), _connections(here, str(here.resolve(ENDLESS)), 7, 8) as made:
        here.until(lambda: len(sent) >= 8)  # what was asked of the silent server before may come, too
        settled: list[int] = []
        while settled != (settled := list(sent)):
            here.loop.turn(QUIET)
        _assert_serves(here, api)
        assert _used(here)[0][0] - before[0][0] < 2 << 20, "bytes that wait are the kernel's"
        for one in made:
            assert one.recv(1) == b"\0"
    here.until(lambda: _closed(here, "endless") == 8)


def _question(name: str) -> bytes:
    """For an address (RFC 1035, 4.1)."""
    labels = b"".join(bytes([len(it)]) + it.encode() for it in name.split("."))
    return b"\0\7\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def test_data_in_names(here: World) -> None:
    """DNS tunnelling below an allowed suffix: look-ups are bounded, counted, and no server hears of them."""
    here.forget()
    begun, asked, answered = time.monotonic(), 0, 0
    with NameServer(RESOLVER, {}) as names, turning(here):
        with here.guest.inside():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            asking.connect((GATEWAY, 53))
            while asked < 100_000 and (asked % 500 or ("denied", "", Denial.LIMIT_LOOKUPS) not in _counts(here)):
                asked += 1
                asking.send(_question(f"{os.urandom(30).hex()}.{asked}.wild.example.com"))
                while select.select([asking], [], [], 0)[0]:
                    answered += len(asking.recv(4096)) > 0
        seconds = time.monotonic() - begun
        assert names.asked == []
    here.turn()
    assert answered <= min(asked, 2000 + 500 * seconds)
    assert answered < asked, "the bound, or a gateway that is slower than that"
    # those beyond are told without names, one in a second
    assert _counts(here)["name", "wild", ""] <= 4096 + time.monotonic() - begun + 1
    assert _counts(here)["denied", "", Denial.LIMIT_LOOKUPS] <= time.monotonic() - begun + 1
    assert {it.kind for it in verdicts(here) if it.rule in {"", "wild"}} <= {
        NetworkEventKind.NAME,
        NetworkEventKind.DENIED,
    }


def test_after_the_flood_a_name_is_answered(here: World) -> None:
    """Its questions come back with time."""
    found: list[str | None] = []

    def ask() -> None:
        with suppress(TimeoutError):
            found.append(here.resolve(API))

    for _ in range(20):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        if found:
            break
    _assert_serves(here, str(found[0]))
