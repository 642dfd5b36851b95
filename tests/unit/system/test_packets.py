"""Packets keep their bounds, their descriptors and their senders; closing what a stranger sent holds up no process."""

import _thread
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvmnix.system import descriptors
from mvmnix.system.descriptors import (
    PacketError,
    ask_for_senders,
    close_apart,
    is_pipe,
    receive_packet,
    send_packet,
)
from mvmnix.system.process import is_readable
from tests.descriptors import nothing_left_open
from tests.patience import EVENT_PATIENCE, until
from tests.support.forks import fork_that, result_of
from tests.support.processes import count_threads

MOST, SIZE = 3, 100


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends; the second one asks for senders."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with first, second:
        ask_for_senders(second)
        yield first, second


Pair = tuple[socket.socket, socket.socket]


def test_a_packet_is_received_whole(pair: Pair) -> None:
    ours, theirs = pair
    with nothing_left_open():
        reading, writing = os.pipe()
        send_packet(ours, b"x" * SIZE, (reading, writing))
        os.close(reading)
        os.close(writing)
        packet = receive_packet(theirs, SIZE, MOST)
        assert packet.data == b"x" * SIZE
        assert len(packet.descriptors) == 2
        assert not any(os.get_inheritable(fd) for fd in packet.descriptors)
        os.write(packet.descriptors[1], b"through it")
        assert os.read(packet.descriptors[0], 100) == b"through it"
        packet.close()


@pytest.mark.parametrize(
    ("size", "count"), [(SIZE + 1, 0), (SIZE, MOST + 1), (1, 200), (SIZE + 1, 200)], ids=["long", "one", "many", "both"]
)
def test_what_is_too_much_is_refused_and_left_nowhere(pair: Pair, size: int, count: int) -> None:
    ours, theirs = pair
    with Path(__file__).open() as file:
        send_packet(ours, b"x" * size, (file.fileno(),) * count)
    before = count_threads()
    with nothing_left_open():
        with pytest.raises(PacketError, match=f"more than {SIZE} bytes, or with more than {MOST} descriptors"):
            receive_packet(theirs, SIZE, MOST)
        until(lambda: count_threads() <= before)


def test_the_end_is_an_empty_packet(pair: Pair) -> None:
    ours, theirs = pair
    ours.close()
    packet = receive_packet(theirs, SIZE, MOST)
    assert (packet.data, packet.descriptors) == (b"", ())
    packet.close()


def test_the_sender_is_a_process_that_can_be_waited_for(pair: Pair) -> None:
    ours, theirs = pair
    with fork_that(lambda: send_packet(ours, b"x")) as child:
        packet = receive_packet(theirs, SIZE, MOST)
        assert packet.sender is not None
        assert (packet.sender.process, packet.sender.user) == (child, os.geteuid())
        if packet.sender.pidfd is not None:  # Linux 6.5
            assert not is_readable(packet.sender.pidfd, 0)
    if packet.sender.pidfd is not None:
        assert is_readable(packet.sender.pidfd, EVENT_PATIENCE)
    packet.close()


def test_who_does_not_ask_hears_of_no_sender(pair: Pair) -> None:
    ours, theirs = pair
    send_packet(theirs, b"x")
    assert receive_packet(ours, SIZE, MOST).sender is None


def test_a_full_connection_takes_nothing_and_waits_for_nothing(pair: Pair) -> None:
    ours, _ = pair
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            send_packet(ours, b"x" * SIZE)


def pipe_end(number: int) -> Callable[[Path], int]:
    """Return what opens a pipe, and keeps this end of it."""

    def make(_: Path) -> int:
        ends = os.pipe()
        os.close(ends[1 - number])
        return ends[number]

    return make


def fifo(flags: int) -> Callable[[Path], int]:
    """Return what opens a FIFO with these flags."""

    def make(directory: Path) -> int:
        os.mkfifo(directory / "fifo")
        return os.open(directory / "fifo", flags)

    return make


@pytest.mark.parametrize(
    ("make", "readable", "writable"),
    [
        (pipe_end(0), True, False),
        (pipe_end(1), False, True),
        (fifo(os.O_RDWR), True, True),
        (fifo(os.O_RDONLY | os.O_NONBLOCK), True, False),
        (fifo(os.O_PATH), False, False),
        (lambda _: os.open(__file__, os.O_RDONLY), False, False),
        (lambda directory: os.open(directory, os.O_RDONLY | os.O_DIRECTORY), False, False),
        (lambda _: os.open("/dev/null", os.O_RDWR), False, False),
        (lambda _: socket.socket(socket.AF_UNIX).detach(), False, False),
        (lambda _: os.memfd_create("x"), False, False),
        (lambda _: os.eventfd(0), False, False),
        (lambda _: os.openpty()[0], False, False),
    ],
    ids=[
        "reading",
        "writing",
        "both",
        "fifo",
        "path",
        "file",
        "directory",
        "device",
        "socket",
        "memory",
        "event",
        "pty",
    ],
)
def test_only_a_pipe_is_a_pipe(make: Callable[[Path], int], tmp_path: Path, *, readable: bool, writable: bool) -> None:
    fd = make(tmp_path)
    assert (is_pipe(fd, os.O_RDONLY), is_pipe(fd, os.O_WRONLY)) == (readable, writable)
    os.close(fd)


def test_a_descriptor_that_is_closed_is_no_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    assert not is_pipe(writing, os.O_WRONLY)


def lingering() -> tuple[socket.socket, int]:
    """Return a peer that reads nothing, and a connection to it whose close waits for the peer (socket(7))."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname(), EVENT_PATIENCE)
        peer, _ = listening.accept()
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    ours.setblocking(True)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1 << 15))
    return peer, ours.detach()


def test_a_close_that_waits_holds_up_a_thread_of_its_own() -> None:
    peer, fd = lingering()
    before = count_threads()
    close_apart((fd,))
    assert count_threads() == before + 1
    peer.close()  # with what it hasn't read: a reset, which ends the wait
    until(lambda: count_threads() == before)
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_process_ends_while_a_close_waits() -> None:
    def leave() -> bool:
        peer, fd = lingering()
        close_apart((fd,))
        return peer.fileno() >= 0 and count_threads() == 2

    assert result_of(leave)


def test_pipes_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_thread", None)
    with nothing_left_open():
        close_apart(os.pipe())
        close_apart(())


def is_open(fd: int) -> bool:
    """Whether this process has it open."""
    return Path(f"/proc/self/fd/{fd}").is_symlink()


def test_numbers_are_free_while_closes_wait() -> None:
    """So that no fork has these descriptors."""
    (first, one), (second, other) = lingering(), lingering()
    before = count_threads()
    with first, second:
        close_apart((one, other))
        assert [is_open(one), is_open(other)] == [False, False]
        assert count_threads() == before + 2
    until(lambda: count_threads() == before)


def test_without_a_thread_descriptors_stay_open_until_the_next_close(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    first, second = (os.open(os.devnull, os.O_RDONLY) for _ in range(2))
    with monkeypatch.context() as patched:
        patched.setattr(_thread, "start_new_thread", refuse)
        close_apart((first,))
    assert is_open(first)
    assert result_of(lambda: (descriptors._unclosed, is_open(first))) == ([], True), "a fork closes none"
    close_apart((second,))
    until(lambda: not is_open(first) and not is_open(second))
