"""Sockets by name, in a private directory: packets with senders, whatever the path's length, and no other's name."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mvmnix.system import private_sockets
from mvmnix.system.descriptors import receive_packet, send_packet
from mvmnix.system.private_dirs import Directory
from tests.descriptors import nothing_left_open
from tests.patience import EVENT_PATIENCE, SHORT, until
from tests.support.forks import result_of

NAME = "s.sock"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    """A private directory whose path is longer than the name of a socket may be (unix(7): 108 bytes)."""
    with Directory.create(str(tmp_path / ("long" * 20) / ("longer" * 20))) as made:
        yield made


def test_a_packet_comes_with_its_sender(directory: Directory) -> None:
    with private_sockets.listen(directory, NAME, 4) as listening:
        calling = private_sockets.connect(directory, NAME, EVENT_PATIENCE)
        send_packet(calling, b"before it was accepted")
        connection, _ = listening.accept()
        with calling, connection:
            send_packet(calling, b"afterwards")
            for data in (b"before it was accepted", b"afterwards"):
                packet = receive_packet(connection, 100, 0)
                assert packet.data == data
                assert packet.sender is not None
                assert (packet.sender.process, packet.sender.user) == (os.getpid(), os.geteuid())
                packet.close()
            assert private_sockets.peer(calling) == (os.getpid(), os.geteuid())
            assert calling.type == connection.type == socket.SOCK_SEQPACKET


def test_the_sender_is_who_sends_and_not_who_connected(directory: Directory) -> None:
    with private_sockets.listen(directory, NAME, 4) as listening:
        calling = private_sockets.connect(directory, NAME, EVENT_PATIENCE)
        connection, _ = listening.accept()
        with calling, connection:

            def send() -> int:
                send_packet(calling, b"x")
                return os.getpid()

            child = result_of(send)
            packet = receive_packet(connection, 100, 0)
            assert packet.sender is not None
            assert packet.sender.process == child != os.getpid()
            packet.close()


def test_the_socket_is_its_users_alone(directory: Directory) -> None:
    before = os.umask(0)
    try:
        with private_sockets.listen(directory, NAME, 1):
            status = os.stat(NAME, dir_fd=directory.fd)
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_what_a_dead_process_left_is_replaced(directory: Directory) -> None:
    private_sockets.listen(directory, NAME, 1).close()
    with pytest.raises(ConnectionRefusedError), nothing_left_open():
        private_sockets.connect(directory, NAME, EVENT_PATIENCE)
    with private_sockets.listen(directory, NAME, 1):
        private_sockets.connect(directory, NAME, EVENT_PATIENCE).close()


def test_nothing_is_left_open_where_there_is_no_socket(directory: Directory) -> None:
    with nothing_left_open(), pytest.raises(FileNotFoundError):
        private_sockets.connect(directory, NAME, EVENT_PATIENCE)


def test_a_directory_in_its_place_is_no_name_to_take(directory: Directory) -> None:
    os.mkdir(NAME, dir_fd=directory.fd)
    with nothing_left_open(), pytest.raises(OSError):
        private_sockets.listen(directory, NAME, 1)


def test_a_listener_that_accepts_nothing_is_given_up(directory: Directory) -> None:
    with private_sockets.listen(directory, NAME, 0):
        waiting = []
        with nothing_left_open():
            try:
                with pytest.raises(TimeoutError, match="accepts no further connection"):
                    while True:
                        waiting.append(private_sockets.connect(directory, NAME, SHORT))
            finally:
                for each in waiting:
                    each.close()
        assert waiting


def test_a_listener_that_accepts_late_is_waited_for(directory: Directory) -> None:
    with private_sockets.listen(directory, NAME, 0) as listening:
        first = private_sockets.connect(directory, NAME, EVENT_PATIENCE)
        found: list[socket.socket] = []
        thread = threading.Thread(target=lambda: found.append(private_sockets.connect(directory, NAME, EVENT_PATIENCE)))
        thread.start()
        accepted: list[socket.socket] = []

        def accept() -> bool:
            with suppress(BlockingIOError):
                accepted.append(listening.accept()[0])
            return len(accepted) == 2

        until(accept)
        thread.join()
        assert found[0].getblocking()
        for each in (first, *found, *accepted):
            each.close()
