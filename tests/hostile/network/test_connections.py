"""Connections of a guest through the real gateway and dialler, to servers that have global addresses."""

import socket
from pathlib import Path

import pytest

from mvmnix.launch.network.messages import NetworkEventKind
from tests.hostile.network.world import OTHER, PUBLIC, Server, world

pytestmark = pytest.mark.root("it makes network namespaces of its own")


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def test_an_allowed_address_is_reached_and_others_are_not(tmp_path: Path) -> None:
    with world(tmp_path, [f"tcp:{PUBLIC}:7"]) as here, Server(PUBLIC, 7, echo), Server(OTHER, 7, echo):
        with here.guest.connect(PUBLIC, 7) as connection:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        closed = here.event(NetworkEventKind.CLOSED)
        assert (closed.rule, closed.address, closed.port, closed.sent, closed.received) == ("allow-1", PUBLIC, 7, 5, 5)
        for address, port in ((OTHER, 7), (PUBLIC, 8), ("169.254.169.254", 80)):
            with pytest.raises(ConnectionRefusedError):
                here.guest.connect(address, port)
