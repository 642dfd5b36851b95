"""Connecting to the first address that answers: silent ones hold no thread, and each has its time."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mvmnix.network.dialer import connecting
from mvmnix.network.dialer.connecting import Connecting, ConnectionAttempt
from tests.patience import EVENT_PATIENCE, until

#: Loopback's addresses, each with a server that is there, isn't, or is silent.
THERE, ABSENT, SILENT = "127.0.0.2", "127.0.0.3", "127.0.0.4"


@pytest.fixture
def port() -> Iterator[int]:
    """A port where THERE answers, and SILENT's queue is full, so that the kernel drops what asks for a connection."""
    with ExitStack() as stack:
        there = stack.enter_context(socket.create_server((THERE, 0)))
        found = int(there.getsockname()[1])
        silent = stack.enter_context(socket.create_server((SILENT, found), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(silent.getsockname())
        yield found


class Told:
    """What came of connections, in order."""

    def __init__(self) -> None:
        self.found: list[str | None] = []
        self._one = threading.Semaphore(0)

    def __call__(self, found: tuple[str, socket.socket] | None) -> None:
        if found is not None:
            with found[1] as connection:
                assert connection.getpeername()[0] == found[0]
                assert not connection.getblocking()
        self.found.append(None if found is None else found[0])
        self._one.release()

    def wait(self) -> str | None:
        assert self._one.acquire(timeout=EVENT_PATIENCE)
        return self.found[-1]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that doesn't answer counts as silent sooner."""
    for name, seconds in (("_SECONDS", 0.5), ("_MOMENT", 0.01), ("_TICK", 0.05)):
        monkeypatch.setattr(connecting, name, seconds)


def never() -> None:
    raise AssertionError("the thread that waits has failed")


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        ([THERE], THERE),
        ([ABSENT, THERE], THERE),
        ([SILENT, THERE], THERE),
        ([ABSENT, SILENT, ABSENT, THERE], THERE),
        (["255.255.255.255", THERE], THERE),
        ([ABSENT], None),
        ([SILENT], None),
        ([ABSENT] * 6 + [THERE], None),
        ([], None),
    ],
)
def test_the_first_that_answers(port: int, addresses: list[str], found: str | None) -> None:
    told = Told()
    Connecting(never).connect(addresses, port, told)
    assert told.wait() == found
    result = ConnectionAttempt(addresses, port).wait()
    assert (None if result is None else result[0]) == found
    if result is not None:
        result[1].close()


def test_silent_ones_hold_no_thread_and_the_one_that_waits_ends(port: int) -> None:
    before, many, told, quick = threading.active_count(), Connecting(never), Told(), Told()
    for _ in range(8):
        many.connect([SILENT], port, told)
    assert (threading.active_count(), told.found) == (before + 1, [])
    many.connect([THERE], port, quick)
    assert quick.found == [THERE]
    for _ in range(8):
        assert told.wait() is None
    until(lambda: threading.active_count() <= before)
    many.connect([SILENT], port, told)  # another is begun
    assert told.wait() is None


def test_beyond_so_many_its_caller_waits(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_WAITING", 1)
    many, told, beyond = Connecting(never), Told(), Told()
    many.connect([SILENT], port, told)
    many.connect([SILENT, THERE], port, beyond)
    assert beyond.found == [THERE]
    assert told.wait() is None


def test_without_another_thread_its_caller_waits(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    told = Told()
    Connecting(never).connect([SILENT, THERE], port, told)
    assert told.found == [THERE]


def test_a_thread_that_fails_is_told(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def told(_found: object) -> None:
        raise MemoryError

    Connecting(failed.set).connect([SILENT], port, told)
    assert failed.wait(EVENT_PATIENCE)
