"""Connections that programs in the guest open, carried by the guest agent itself to services on the host."""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.launch.agent.frames import INITIAL_WINDOW
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.system.loop import Loop
from tests.integration.agent_house import (
    IDLE,
    config,
    execute,
    talk,
    until,
    workload,
)
from tests.unit.launch.channel_house import Echo, Services

pytestmark = pytest.mark.integration


class Client:
    """A program in the guest that connects, sends all, half-closes, and reads to the end; driven by the loop."""

    def __init__(self, loop: Loop, port: int, data: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.got = bytearray()
        self.done = self.was_reset = False
        self._loop = loop
        self._data = memoryview(data)
        self._sent_all = False
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(self.sock.fileno(), read=self._read, write=None if self._sent_all else self._write)

    def _read(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data, self.was_reset = b"", True
        self.got += data
        if not data:
            self.done = True
            self._loop.forget(self.sock.fileno())
            self.sock.close()

    def _write(self) -> None:
        try:
            self._data = self._data[self.sock.send(self._data) :]
        except (BrokenPipeError, ConnectionResetError):
            self._data = memoryview(b"")
        if not self._data:
            self._sent_all = True
            if not self.was_reset:
                self.sock.shutdown(socket.SHUT_WR)
        self._watch()


def test_connections_are_carried_both_ways(agent: Path, port: int) -> None:
    data = os.urandom(8 << 20)
    services = Services()
    with talk(agent, config(ports=(port,)), services=services) as (channel, loop):
        clients = [Client(loop, port, data) for _ in range(3)]
        until(loop, lambda: all(client.done for client in clients))
        assert [bytes(client.got) == data for client in clients] == [True] * 3
        assert max(handler.most for handler in services.made) <= INITIAL_WINDOW
        assert execute(channel, ExecRequest(workload("true")))[0].exit_code == 0


def test_more_connections_than_places_wait(agent: Path, port: int) -> None:
    services = Services()
    with talk(agent, config(ports=(port,)), services=services) as (_, loop):
        clients = [Client(loop, port, b"x" * 1000) for _ in range(100)]
        until(loop, lambda: all(client.done for client in clients))
        assert {bytes(client.got) for client in clients} == {b"x" * 1000}
        assert len(services.made) == 100


class Greets(Echo):
    """Speaks first, and ends its direction at once; still hears what comes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self.pending += b"hello"
        self.heard = 0

    def data(self, data: bytes) -> None:  # type: ignore[explicit-override]
        self.heard += len(data)

    def pull(self, limit: int) -> bytes | None:  # type: ignore[explicit-override]
        self.ended, ended = True, self.ended
        try:
            return super().pull(limit)
        finally:
            self.ended = ended


def test_half_closing_leaves_the_other_direction_open(agent: Path, port: int) -> None:
    services = Services(Greets)
    with talk(agent, config(ports=(port,)), services=services) as (_, loop):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        got: list[bytes] = []

        def read() -> None:
            got.append(sock.recv(100))
            if not got[-1]:
                loop.forget(sock.fileno())

        loop.watch(sock.fileno(), read=read)
        until(loop, lambda: got[-1:] == [b""])
        assert b"".join(got) == b"hello"
        sock.setblocking(True)
        sock.sendall(b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        until(loop, lambda: services.made[0].ended)
        assert isinstance(services.made[0], Greets)
        assert services.made[0].heard == 100_000
        sock.close()


def test_a_broken_connection_breaks_its_stream(agent: Path, port: int) -> None:
    services = Services()
    with talk(agent, config(ports=(port,)), services=services) as (channel, loop):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(b"x")
        until(loop, lambda: bool(services.made))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        until(loop, lambda: services.made[0].was_reset)
        assert channel.ping(idle=IDLE) >= 0
