"""A connection of HTTP is one of those at a time until its server has acknowledged its end."""

import asyncio
import socket

import pytest

from mvmnix.network.gateway import process
from mvmnix.network.supervisor_messages import NetworkEventKind
from tests.unit.network.gateway_world import World, gateway_test, heard

_CLOSED, _DENIED = NetworkEventKind.CLOSED, NetworkEventKind.DENIED
_REQUEST = b" /v1 HTTP/1.1\r\nHost: a.example\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Settling:
    """Stands for the peers: guests acknowledge at once, others when the test says so."""

    def __init__(self) -> None:
        self.guests = list[socket.socket]()
        self.acknowledged = asyncio.Event()

    async def settle(self, *connections: socket.socket) -> None:
        if any(it not in self.guests for it in connections):
            await self.acknowledged.wait()
        for one in connections:
            one.close()


async def _ask(world: World, settling: Settling, method: bytes) -> bytes:
    """What a guest gets whose latest request has this method, until its end."""
    guest = world.connect(await world.resolve("a.example"), 80)
    settling.guests += [*world.connections.made, *world.questions.made]
    guest.send(b"GET" + _REQUEST)
    await world.turn()
    with await world.dial() as server:
        if method != b"GET":
            guest.send(method + _REQUEST)
        server.send(_ANSWER)
        server.shutdown(socket.SHUT_WR)
        await asyncio.sleep(40)
    answer = b""
    while data := heard(guest):
        answer += data
    assert data == b"", "the guest waits for nothing"
    return answer


async def _denials(world: World) -> list[str]:
    """Why another connection is refused."""
    await world.events()
    world.connect("8.8.8.8", 53)
    await world.turn()
    return [it.code for it in await world.events(_DENIED)]


@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_connection_counts_until_its_server_has_acknowledged_its_end(
    method: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    settling = Settling()
    monkeypatch.setattr(process, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(process, "settle", settling.settle)

    @gateway_test("http://a.example/v1,method=GET")
    async def test(world: World) -> None:
        assert (b" 403 " in await _ask(world, settling, method)) == (method == b"PUT")
        assert [it.kind for it in await world.events(_CLOSED)] == [_CLOSED]
        assert await _denials(world) == ["gateway-busy"]
        settling.acknowledged.set()
        await world.turn()
        assert await _denials(world) == ["no-rule"]

    test()
