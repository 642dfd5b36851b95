"""A dialer beside a gateway that may have been taken over: what it is asked, and how it ends."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from mvmnix.network.dialer import process
from mvmnix.network.dialer.connecting import Connecting
from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.policy.decisions import Denial, Rules
from mvmnix.network.sockets import PACKET_BYTES, pair
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules
from tests.patience import EVENT_PATIENCE

type Done = Callable[[tuple[str, socket.socket] | None], None]
_RULES = Rules(Network(parse_rules(["tcp:api.example.com:7", "tcp:192.0.2.1:7", "tcp:quick.example.com:7"], [])))


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
def serving() -> Iterator[Served]:
    """One that serves, and has ended in the end."""
    (asks, asked), (events, told) = pair(), pair()
    with asks, asked, events, told:
        serving = threading.Thread(target=process.Dialer(asked, told, _RULES).serve)
        serving.start()
        here = Served(asks, events)
        assert here.event().kind is NetworkEventKind.READY
        try:
            yield here
        finally:
            asks.close()
            serving.join()


def test_it_ends_with_its_gateway() -> None:
    with serving() as here:
        assert here.ask(Ask(1, "allow-2", "192.0.2.1", 7)).code is Denial.ADDRESS_NOT_PUBLIC


def test_what_no_rule_admits_is_a_breach() -> None:
    with serving() as here:
        assert here.ask(Ask(1, "allow-1", "api.example.com", 8)).code is Denial.PORT_NOT_ALLOWED
        event = here.event()
        assert (event.kind, event.name, event.port) == (NetworkEventKind.BREACH, "api.example.com", 8)


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


def test_what_takes_all_memory_is_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(_host: str, _port: int) -> tuple[str, ...]:
        raise MemoryError

    monkeypatch.setattr(process, "_resolved", resolved)
    with serving() as here:
        for number in range(3):
            answer = here.ask(Ask(number, "allow-1", "api.example.com", 7))
            assert (answer.number, answer.code) == (number, Denial.RESOLVE_FAILED)


def test_a_slow_name_has_no_other_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads but one wait for names; and they serve again."""
    free = threading.Event()

    def resolved(host: str, _port: int) -> tuple[str, ...]:
        if host != "quick.example.com":
            free.wait(EVENT_PATIENCE)
        return ()

    monkeypatch.setattr(process, "_resolved", resolved)
    with serving() as here:
        for _ in range(2):
            for number in range(1, process._WORKERS):
                here.asks.send(Ask(number, "allow-1", "api.example.com", 7).to_bytes())
            for _ in range(3):
                assert here.ask(Ask(0, "allow-3", "quick.example.com", 7)).number == 0
            free.set()
            found = {Reply.parse(here.asks.recv(PACKET_BYTES)).number for _ in range(1, process._WORKERS)}
            assert found == set(range(1, process._WORKERS))
            free.clear()
