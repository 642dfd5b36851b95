"""One lane that fetches, in this process: what it says to mvm, and what becomes of its connections."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mvmnix.builder.fetch.worker import exchange
from mvmnix.builder.fetch.worker.exchange import Fetching, Trust
from mvmnix.builder.fetch.worker.packets import PIECE_BYTES, PacketKind, pack, pair, unpack
from tests.patience import EVENT_PATIENCE


class Mvm:
    """mvm's end of the lane."""

    def __init__(self, end: socket.socket, stack: ExitStack) -> None:
        self.end, self._stack = end, stack

    def ask(self) -> socket.socket:
        """Ask for something, and give the connection that is wanted; returns its server's end."""
        self.end.sendall(bytes((PacketKind.ASK,)) + b"GET\n")
        assert self.next() == (PacketKind.WANTED, b"")
        return self.connect()

    def connect(self) -> socket.socket:
        ours, server = socket.socketpair()
        for each in (ours, server):
            self._stack.enter_context(each)
        server.settimeout(EVENT_PATIENCE)
        socket.send_fds(self.end, [bytes((PacketKind.CONNECTION,)) + pack(b"", b"", b"")], [ours.fileno()])
        return server

    def next(self) -> tuple[PacketKind, bytes]:
        packet = self.end.recv(PIECE_BYTES + 1)
        return PacketKind(packet[0]), packet[1:]

    def broken(self) -> bytes:
        """What broke, in words."""
        kind, content = self.next()
        assert kind is PacketKind.BROKEN
        what, said = unpack(content)
        assert what == b""
        return said


@pytest.fixture
def mvm() -> Iterator[Mvm]:
    ours, theirs = pair()
    ours.settimeout(EVENT_PATIENCE)
    fetching = Fetching(theirs, "", Trust(""), EVENT_PATIENCE)
    thread = threading.Thread(target=fetching.serve)
    thread.start()
    with ExitStack() as stack:
        yield Mvm(ours, stack)
        ours.close()
        thread.join()
        fetching._hang_up()  # as the end of its process would
        theirs.close()


def test_mvm_is_told_of_bytes_that_come(mvm: Mvm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is a head to tell of, and before a body is whole that goes in one packet."""
    monkeypatch.setattr(exchange, "_QUIET", -1)
    server = mvm.ask()
    assert server.recv(100) == b"GET\n"
    for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"a"):
        server.sendall(piece)
        assert mvm.next() == (PacketKind.ALIVE, b"")
    server.sendall(b"b")
    assert [mvm.next()[0] for _ in range(2)] == [PacketKind.ALIVE, PacketKind.WHOLE]


def test_mvm_is_not_told_of_each_byte(mvm: Mvm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_QUIET", EVENT_PATIENCE)
    server = mvm.ask()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx":
        server.sendall(bytes((byte,)))
    assert mvm.next() == (PacketKind.WHOLE, pack(b"200", b"1", b"x"))


def test_a_connection_is_let_go_before_another_one_is_wanted(mvm: Mvm) -> None:
    """For its server too, though mvm has it open still."""
    server = mvm.ask()
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert mvm.next()[0] is PacketKind.WHOLE
    assert server.recv(100) == b"GET\n"
    server.sendall(b"what it was not asked for")
    mvm.end.sendall(bytes((PacketKind.ASK,)) + b"GET\n")
    assert mvm.next() == (PacketKind.WANTED, b"")
    assert server.recv(100) == b""
    mvm.connect().sendall(b"HTTP/1.1 204 None\r\n\r\n")
    assert mvm.next()[0] is PacketKind.WHOLE


def test_a_connection_that_does_not_come(mvm: Mvm) -> None:
    mvm.end.sendall(bytes((PacketKind.ASK,)) + b"GET\n")
    assert mvm.next() == (PacketKind.WANTED, b"")
    mvm.end.sendall(bytes((PacketKind.CONNECTION,)) + pack(b"", b"", b""))
    assert mvm.broken() == b"there is no connection"


@pytest.mark.parametrize(("size", "good"), [(16 << 10, True), ((16 << 10) + 1, False)])
def test_a_field_that_is_too_long_to_tell(mvm: Mvm, size: int, good: bool) -> None:
    server = mvm.ask()
    assert server.recv(100) == b"GET\n"
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: " + b"x" * size + b"\r\n\r\n")
    if good:
        assert mvm.next() == (PacketKind.WHOLE, pack(b"200", b"0", b"etag", b"x" * size, b""))
    else:
        assert mvm.broken() == b"its etag is too long"
        assert server.recv(1) == b"", "nothing more is read from it"


def test_a_connection_that_fails_is_told_in_the_systems_words(mvm: Mvm) -> None:
    server = mvm.ask()
    assert server.recv(2) == b"GE"
    server.close()  # with bytes unread: ECONNRESET at the other end (unix(7))
    assert mvm.broken() == os.strerror(104).encode()


def test_what_is_no_request_ends_it(mvm: Mvm) -> None:
    mvm.end.sendall(bytes((PacketKind.DATA,)))
    mvm.end.shutdown(socket.SHUT_WR)


def test_each_way_to_read_tells_of_bytes() -> None:
    """Bodies are read into a buffer; what TLS reads by itself, for a handshake, is not."""
    told = list[int]()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        heard = exchange._WatchedStream(ours, lambda: told.append(1))
        theirs.sendall(b"ab")
        assert heard.recv(1) == b"a"
        assert heard.recv_into(memoryview(bytearray(1))) == 1
        assert told == [1, 1]
