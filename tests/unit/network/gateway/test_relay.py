"""Bytes between two sockets: whose they are, who waits for whom, and what is kept of it."""

import asyncio
import fcntl
import itertools
import os
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mvmnix.network.gateway import relay
from mvmnix.network.gateway.meters import RuleMeter
from mvmnix.network.gateway.relay import Pipes, Relay, settle
from mvmnix.network.sockets import set_options
from mvmnix.plan.network import RuleLimits
from tests.patience import EVENT_PATIENCE, POLL
from tests.support import virtual_time

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
        error = await self.done
        await settle(*self.relay._ends)
        return error


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


@contextmanager
def _by_tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    """One of ours, prepared as the gateway's are, and its peer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        set_options(listener)
        peer = stack.enter_context(socket.create_connection(listener.getsockname(), EVENT_PATIENCE))
        ours = stack.enter_context(listener.accept()[0])
        ours.setblocking(False)
        yield ours, peer


def _fill(connection: socket.socket) -> int:
    """Send until nothing more is taken."""
    count = 0
    with pytest.raises(BlockingIOError):
        while True:
            count += connection.send(bytes(1 << 16))
    return count


def test_a_connection_is_reset_however_it_is_closed() -> None:
    """What a listener was prepared for is so for those that it accepts, and no data is left to the kernel."""
    with _by_tcp() as (ours, peer):
        _fill(ours)
        ours.close()
        with pytest.raises(ConnectionResetError):
            while peer.recv(1 << 20):
                pass


def test_what_was_sent_last_is_taken_before_a_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly, as long as some of it is: each time so many seconds begin again."""
    monkeypatch.setattr(relay, "_LAST_LOOK", 0.01)

    async def run() -> None:
        with _by_tcp() as (ours, peer):
            sent, got = _fill(ours), 0
            ours.shutdown(socket.SHUT_WR)
            settling = asyncio.create_task(settle(ours))
            await asyncio.sleep(10 * POLL)
            assert ours.fileno() >= 0
            while data := await asyncio.to_thread(peer.recv, 1 << 18):
                got += len(data)
            assert got == sent
            await settling
            assert ours.fileno() == -1

    asyncio.run(run())


def test_a_peer_that_takes_nothing_is_reset_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_UNACKNOWLEDGED", 0.05)

    async def run() -> None:
        with _by_tcp() as (ours, peer), _by_tcp() as (other, others):
            _fill(ours)
            for one in (ours, other):
                one.shutdown(socket.SHUT_WR)
            await settle(ours, other)
            assert (ours.fileno(), other.fileno()) == (-1, -1)
            assert others.recv(1) == b"", "it took its end, and isn't reset with the other"
            with pytest.raises(ConnectionResetError):
                while peer.recv(1 << 20):
                    pass

    asyncio.run(run())


def test_a_machine_that_ends_resets_what_is_not_settled() -> None:
    async def run() -> None:
        with _by_tcp() as (ours, peer):
            _fill(ours)
            ours.shutdown(socket.SHUT_WR)
            settling = asyncio.create_task(settle(ours))
            await asyncio.sleep(POLL)
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
            with pytest.raises(ConnectionResetError):
                while peer.recv(1 << 20):
                    pass

    asyncio.run(run())


def test_a_peer_that_takes_all_too_slowly_is_reset_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledged = itertools.count()
    monkeypatch.setattr(relay, "_acknowledged", lambda _: next(acknowledged))
    monkeypatch.setattr(relay, "_SETTLED", 2.0)

    async def settled() -> None:
        with _by_tcp() as (ours, _):
            await settle(ours)
            assert ours.fileno() == -1
            assert 2.0 <= asyncio.get_running_loop().time() <= 3.0

    virtual_time.run(settled)
