"""Turns at the dialer: how many connections a host has, who waits, and what a dialer may say."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest

from mvmnix.network.dialer_messages import Ask, Reply
from mvmnix.network.gateway.dialer_client import DialerClient, ServerConnection
from mvmnix.network.gateway.opening import DeniedError
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.sockets import PACKET_BYTES, pair
from tests.descriptors import nothing_left_open
from tests.support.virtual_time import run

_PORT = 443


class Asking:
    """A client that asks, its dialer's end, and what became of what was asked: by second, the denials."""

    def __init__(self) -> None:
        end, self.dialer = pair()
        self.dialer.setblocking(False)
        self.gone = 0
        self.dropped: list[int] = []
        self.client = DialerClient(end, self._count, self.dropped.append)
        self.client.start(asyncio.get_running_loop())
        self._end = end
        self.asked: list[Ask] = []
        self.denied = Counter[tuple[float, Denial]]()
        self.connected: list[ServerConnection] = []
        self._tasks: list[asyncio.Task[None]] = []

    def _count(self) -> None:
        self.gone += 1
        asyncio.get_running_loop().remove_reader(self._end)

    def dial(self, *hosts: str, rule: str = "r") -> None:
        self._tasks += [asyncio.create_task(self._dial(host, rule)) for host in hosts]

    async def _dial(self, host: str, rule: str) -> None:
        try:
            self.connected.append(await self.client.dial(rule, host, _PORT))
        except DeniedError as error:
            self.denied[asyncio.get_running_loop().time(), error.code] += 1

    async def take(self) -> list[Ask]:
        """What the dialer is asked since the last time."""
        for _ in range(10):
            await asyncio.sleep(0)
        found = []
        with suppress(BlockingIOError):
            while packet := self.dialer.recv(PACKET_BYTES):
                found.append(Ask.parse(packet))
        self.asked += found
        return found

    async def reply(self, ask: Ask, code: Denial | None = Denial.CONNECT_FAILED, *fds: int, rule: str = "") -> None:
        packet = Reply(ask.number, code, rule, "192.0.2.1").to_bytes()
        socket.send_fds(self.dialer, [packet], fds)
        for _ in range(10):
            await asyncio.sleep(0)

    async def connect(self, ask: Ask) -> socket.socket:
        """Answer with a connection; returns its far end."""
        near, far = socket.socketpair()
        with near:
            await self.reply(ask, None, near.fileno())
        return far

    async def ended(self) -> None:
        await asyncio.gather(*self._tasks)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for one in (self._end, self.dialer, *(it.socket for it in self.connected)):
            one.close()


def asking(test: Callable[[Asking], Coroutine[object, object, None]]) -> Callable[[], None]:
    """A test that is given one."""

    async def main() -> None:
        made = Asking()
        try:
            await test(made)
        finally:
            asyncio.get_running_loop().remove_reader(made._end)
            made.close()

    return lambda: run(main)


@asking
async def test_a_connection_is_handed_on(it: Asking) -> None:
    it.dial("a.example")
    (ask,) = await it.take()
    assert (ask.rule, ask.host, ask.port) == ("r", "a.example", _PORT)
    with await it.connect(ask) as far:
        await it.ended()
        (made,) = it.connected
        assert (made.number, made.address, made.socket.getblocking()) == (ask.number, "192.0.2.1", False)
        assert (it.denied, it.gone, it.dropped) == ({}, 0, [])
        made.socket.send(b"x")
        assert far.recv(1) == b"x"
    assert not [late for late in asyncio.get_running_loop()._scheduled if not late.cancelled()]  # type: ignore[attr-defined]


@asking
async def test_a_refusal_says_by_which_rule_and_keeps_nothing_open(it: Asking) -> None:
    near, far = socket.socketpair()
    with near, far:
        for code, fds, rule, expected in (
            (Denial.ADDRESS_METADATA, (), "deny-1", (Denial.ADDRESS_METADATA, "deny-1", "192.0.2.1")),
            (Denial.RESOLVE_FAILED, (), "", (Denial.RESOLVE_FAILED, "r", "192.0.2.1")),
            (None, (), "", (Denial.GATEWAY_BUSY, "r", "192.0.2.1")),
            (Denial.NO_RULE, (near.fileno(),), "", (Denial.NO_RULE, "r", "192.0.2.1")),
        ):
            dialing = asyncio.create_task(it.client.dial("r", "a.example", _PORT))
            (ask,) = await it.take()
            await it.reply(ask, code, *fds, rule=rule)
            with pytest.raises(DeniedError) as caught:
                await dialing
            assert (caught.value.code, caught.value.rule, caught.value.address) == expected
        near.close()
        assert far.recv(1) == b"", "what comes with a refusal is closed"
    assert it.dropped == [3], "a connection that was made, and no descriptor was left for it"
    assert [ask.number for ask in it.asked] == [1, 2, 3, 4]


@asking
async def test_of_several_descriptors_none_is_left_open(it: Asking) -> None:
    with nothing_left_open():
        it.dial("a.example")
        (ask,) = await it.take()
        near, far = socket.socketpair()
        with near, far:
            await it.reply(ask, None, near.fileno(), near.fileno(), near.fileno())
        await it.ended()
        for made in it.connected:
            made.socket.close()


@asking
async def test_a_host_has_so_many_turns(it: Asking) -> None:
    it.dial(*["a.example"] * 10, "b.example")
    assert Counter(ask.host for ask in await it.take()) == {"a.example": 8, "b.example": 1}
    assert len({ask.number for ask in it.asked}) == 9
    await it.reply(it.asked[0])
    assert [ask.host for ask in await it.take()] == ["a.example"]


@asking
async def test_too_many_wait_for_a_silent_host(it: Asking) -> None:
    """Too many wait for it: those of the first look after it counts as silent; the others until all were late."""
    it.dial(*["a.example"] * (8 + 70))
    await it.ended()
    assert it.denied == {(4.0, Denial.CONNECT_FAILED): 6, (75.0, Denial.CONNECT_FAILED): 72}
    it.denied.clear()
    it.dial(*["a.example"] * 9)
    assert len(await it.take()) == 16, "8 before, and 8 again: the turns were given back"


@asking
async def test_a_host_that_answered_a_moment_ago_is_not_silent(it: Asking) -> None:
    """As many wait for it as there are, until it has said nothing for a moment."""
    it.dial(*["a.example"] * (8 + 70))
    await it.take()
    await asyncio.sleep(1.5)
    await it.reply(it.asked[0])
    await it.take()
    await asyncio.sleep(1.5)
    await it.reply(it.asked[8])
    await asyncio.sleep(2.0)
    assert it.denied == {(1.5, Denial.CONNECT_FAILED): 1, (3.0, Denial.CONNECT_FAILED): 1}
    await asyncio.sleep(2.0)
    assert it.denied[6.0, Denial.CONNECT_FAILED] == 68 - 64


@asking
async def test_a_host_that_answers_late_is_silent(it: Asking) -> None:
    it.dial(*["a.example"] * (8 + 70))
    await it.take()
    await asyncio.sleep(3.0)
    await it.reply(it.asked[0])
    await asyncio.sleep(2.0)
    assert it.denied == {(3.0, Denial.CONNECT_FAILED): 1, (4.0, Denial.CONNECT_FAILED): 69 - 64}


@asking
async def test_a_late_answer_is_closed(it: Asking) -> None:
    """What comes after the time is closed."""
    it.dial("a.example")
    (ask,) = await it.take()
    await it.ended()
    assert it.denied == {(75.0, Denial.CONNECT_FAILED): 1}
    assert not it.client._asked
    with await it.connect(ask) as far:
        assert far.recv(1) == b""
    assert it.dropped == [ask.number]


@asking
async def test_an_answer_to_one_that_was_cancelled_is_closed(it: Asking) -> None:
    dialing = asyncio.create_task(it.client.dial("r", "a.example", _PORT))
    (ask,) = await it.take()
    dialing.cancel()
    near, far = socket.socketpair()
    with near, far:
        socket.send_fds(it.dialer, [Reply(ask.number, None).to_bytes()], [near.fileno()])
        it.client._readable()  # before the one that asked has ended
        near.close()
        assert far.recv(1) == b""
    assert it.dropped == [ask.number]
    with pytest.raises(asyncio.CancelledError):
        await dialing


@asking
async def test_numbers_begin_again(it: Asking) -> None:
    it.client._number = 0xFFFFFFFE
    it.dial(*["a.example"] * 2)
    assert [ask.number for ask in await it.take()] == [0xFFFFFFFF, 0]


@asking
async def test_a_dialer_that_reads_nothing(it: Asking) -> None:
    it.dial(*(f"{number}.example" for number in range(2000)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert set(it.denied) == {(0.0, Denial.GATEWAY_BUSY)}


@asking
async def test_a_dialer_that_ends(it: Asking) -> None:
    it.client._readable()
    assert it.gone == 0, "there is nothing to read"
    it.dialer.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert it.gone == 1


@asking
async def test_a_dialer_that_says_what_it_never_does(it: Asking) -> None:
    it.dialer.send(b"?")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert it.gone == 1


@asking
async def test_a_connection_whose_asker_is_cancelled_before_it_has_it_is_dropped(it: Asking) -> None:
    dialing = asyncio.create_task(it.client.dial("r", "a.example", _PORT))
    (ask,) = await it.take()
    near, far = socket.socketpair()
    with near, far:
        socket.send_fds(it.dialer, [Reply(ask.number, None).to_bytes()], [near.fileno()])
        it.client._readable()
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        near.close()
        assert far.recv(1) == b""
    assert it.dropped == [ask.number]


@asking
async def test_what_comes_until_the_dialer_ends_is_dropped(it: Asking) -> None:
    dialing = asyncio.create_task(it.client.dial("r", "a.example", _PORT))
    (ask,) = await it.take()
    dialing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialing
    finishing = asyncio.create_task(it.client.finish())
    await asyncio.sleep(0)
    assert it.dialer.recv(PACKET_BYTES) == b"", "the dialer is asked for nothing more"
    with await it.connect(ask) as far:
        assert far.recv(1) == b""
    assert (it.dropped, finishing.done()) == ([ask.number], False)
    it.dialer.close()
    await finishing
    assert it.gone == 1
    await it.client.finish()


@asking
async def test_a_dialer_that_does_not_end_has_a_moment(it: Asking) -> None:
    await it.client.finish()
    assert (it.gone, asyncio.get_running_loop().time()) == (0, 0.4)
