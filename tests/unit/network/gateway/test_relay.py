"""Bytes between two sockets: whose they are, who waits for whom, and what is kept of it."""

import asyncio
import fcntl
import os
import socket
import struct
import termios

from mvmnix.network.gateway.meters import RuleMeter
from mvmnix.network.gateway.relay import Pipes, Relay
from mvmnix.plan.network import RuleLimits
from tests.patience import POLL

_MUCH = 4 << 20


class Carried:
    """A relay that runs, and the far end of each of its sockets."""

    def __init__(self, pipes: Pipes, limits: RuleLimits | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.guest, guests = socket.socketpair()
        self.server, servers = socket.socketpair()
        for one in (self.guest, guests, self.server, servers):
            one.setblocking(False)
        self.relay = Relay(guests, servers, RuleMeter(limits or RuleLimits(), loop.time), pipes)
        self.done = asyncio.create_task(self.relay.run())

    async def read_all(self, end: socket.socket) -> bytes:
        data = b""
        while more := await asyncio.get_running_loop().sock_recv(end, 1 << 20):
            data += more
        return data

    async def close(self) -> OSError | None:
        self.guest.close()
        self.server.close()
        return await self.done


def _free(pipes: Pipes) -> list[int]:
    """How many bytes are in the pipes that are kept, each of them taken for that."""
    found = []
    while pipes._free:
        pipe = pipes.take()
        found.append(struct.unpack("i", fcntl.ioctl(pipe[0], termios.FIONREAD, bytes(4)))[0])
        pipes.destroy(pipe)
    return found


def test_a_slow_reader_stalls_itself_alone_and_bytes_stay_with_their_connection() -> None:
    async def run() -> None:
        loop, pipes = asyncio.get_running_loop(), Pipes()
        slow, fast = Carried(pipes), Carried(pipes)
        sending = asyncio.create_task(loop.sock_sendall(slow.guest, b"s" * _MUCH))
        for _ in range(3):
            await loop.sock_sendall(fast.guest, b"f" * 100)
            assert await loop.sock_recv(fast.server, 1000) == b"f" * 100
        assert not sending.done()
        assert slow.relay.sent.count < _MUCH
        reading = asyncio.create_task(slow.read_all(slow.server))
        await sending
        slow.guest.shutdown(socket.SHUT_WR)
        assert await reading == b"s" * _MUCH
        assert (await slow.close(), await fast.close()) == (None, None)
        assert set(_free(pipes)) == {0}

    asyncio.run(run())


def test_what_a_dead_connection_left_in_a_pipe_is_no_other_ones() -> None:
    async def run() -> None:
        loop, pipes = asyncio.get_running_loop(), Pipes()
        dead = Carried(pipes)
        sending = asyncio.create_task(loop.sock_sendall(dead.guest, b"s" * _MUCH))
        before = -1
        while not dead.relay.sent._left or dead.relay.sent.count != before:  # until nothing moves any more
            before = dead.relay.sent.count
            await asyncio.sleep(POLL)
        sending.cancel()
        await dead.close()
        assert set(_free(pipes)) <= {0}  # the other direction's, perhaps
        alive = Carried(pipes)
        await loop.sock_sendall(alive.guest, b"hello")
        assert await loop.sock_recv(alive.server, 100) == b"hello"
        await alive.close()
        assert set(_free(pipes)) == {0}

    asyncio.run(run())


def test_a_quiet_connection_has_its_two_sockets_and_no_pipe() -> None:
    async def run() -> None:
        loop, pipes = asyncio.get_running_loop(), Pipes()
        many = [Carried(pipes) for _ in range(30)]
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for one in many:
            await loop.sock_sendall(one.guest, b"hello")
            assert await loop.sock_recv(one.server, 100) == b"hello"
        assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208
        for one in many:
            await one.close()
        _free(pipes)

    asyncio.run(run())


def test_the_bytes_of_a_rule_end_a_connection_that_then_leaves_no_timer() -> None:
    async def run() -> None:
        loop, pipes = asyncio.get_running_loop(), Pipes()
        one = Carried(pipes, RuleLimits(bytes=10, bytes_per_second=1024))
        await loop.sock_sendall(one.guest, b"x" * 11)
        assert isinstance(await one.done, ConnectionAbortedError)
        assert one.relay.sent._timer is None
        one.guest.close()
        one.server.close()

    asyncio.run(run())
