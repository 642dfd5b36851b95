"""Descriptors that come with a packet, so many and no more, whoever sends them; and those that are reopened."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.system.descriptors import (
    PacketError,
    access_of,
    ask_for_senders,
    close_listening,
    hang_up,
    receive_packet,
    received,
    reopen,
    send_packet,
)
from tests.unit.lingering import lingering


@pytest.mark.parametrize("most", range(1, 6))
def test_no_more_are_received_than_were_asked_for(most: int) -> None:
    """A buffer for one, rounded up as CMSG_SPACE(3) does, has room for two."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for sent in (0, most, most + 1):
            before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
            socket.send_fds(theirs, [b"packet"], [theirs.fileno()] * sent)
            packet, fds, flags = received(ours, 16, most)
            assert (packet, len(fds), bool(flags & socket.MSG_CTRUNC)) == (b"packet", min(sent, most), sent > most)
            assert not any(os.get_inheritable(fd) for fd in fds)
            for fd in fds:
                os.close(fd)
            assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ask_for_senders(ours)
        yield ours, theirs


def test_more_descriptors_than_are_taken_hold_nobody_up(pair: tuple[socket.socket, socket.socket]) -> None:
    """What a buffer has no room for, the kernel closes in the process that receives."""
    ours, theirs = pair
    with lingering() as slow:
        send_packet(theirs, b"x", (*[theirs.fileno()] * 40, slow.fileno()))
        slow.close()
        with pytest.raises(PacketError, match="more than 3 descriptors"):
            receive_packet(ours, 16, 3)


@pytest.mark.parametrize("before", [(), (b"",), (b"x", b"", b"y" * 4096)], ids=["alone", "empty", "several"])
def test_what_was_not_read_holds_up_no_end(
    pair: tuple[socket.socket, socket.socket], before: tuple[bytes, ...]
) -> None:
    ours, theirs = pair
    with lingering() as slow:
        for data in before:
            send_packet(theirs, data)
        send_packet(theirs, b"", (slow.fileno(),))
        slow.close()
        hang_up(ours)
        hang_up(ours)
        with pytest.raises(BrokenPipeError):
            theirs.send(b"x")


def test_the_last_words_are_read_after_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    send_packet(ours, b"the last word")
    hang_up(ours)
    assert [theirs.recv(64), theirs.recv(64)] == [b"the last word", b""]


def test_who_was_not_accepted_holds_up_no_end(tmp_path: Path) -> None:
    place = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(place)
        listening.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller, lingering() as slow:
            caller.connect(place)
            send_packet(caller, b"x", (slow.fileno(),))
            slow.close()
            close_listening(listening)
            assert caller.recv(1) == b""


@pytest.mark.parametrize("access", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_a_reopened_one_has_its_own_position_and_access(tmp_path: Path, access: int) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with (tmp_path / "file").open("r+b") as file:
        assert file.read(1) == b"a"
        again = reopen(file.fileno(), access)
        try:
            assert os.path.sameopenfile(file.fileno(), again)
            assert os.lseek(again, 0, os.SEEK_CUR) == 0
            assert access_of(again) == access
            assert not os.get_inheritable(again)
        finally:
            os.close(again)
