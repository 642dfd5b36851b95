"""Limits and records of a connection that several rules are used by: each has the bytes of its own requests.

Time is the loop's, which goes on when nothing else happens.
"""

import asyncio
import socket
from collections.abc import Sequence
from itertools import product

import pytest

from mvmnix.network.policy.decisions import Denial
from mvmnix.network.supervisor_messages import NetworkEventKind
from tests.patience import EVENT_PATIENCE, QUIET
from tests.support.virtual_time import run
from tests.unit.network.http_port import ADDRESS, Carrier, Outcome

HOST = "a.example"
RULES = ("a", "b")
#: Bytes of a body, larger than what is read at once.
LARGE = 1 << 17


class Server:
    """Answers GET /RULE/N with N bytes, and a POST with none once its content has come; keeps what it got."""

    def __init__(self) -> None:
        self.got = 0
        self.dialed_by: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def connect(self, rule: str) -> socket.socket:
        self.dialed_by.append(rule)
        far, near = socket.socketpair()
        near.setblocking(False)
        self._tasks.append(asyncio.create_task(self._serve(near)))
        return far

    async def _serve(self, end: socket.socket) -> None:
        loop, data = asyncio.get_running_loop(), b""
        with end:
            while more := await loop.sock_recv(end, 1 << 16):
                self.got += len(more)
                data += more
                while b"\r\n\r\n" in data:
                    head, _, rest = data.partition(b"\r\n\r\n")
                    length = int((head + b"\r\n").lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                    if len(rest) < length:
                        break
                    data = rest[length:]
                    size = int(head.split(b" ")[1].split(b"/")[2])
                    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
                    await loop.sock_sendall(end, answer + bytes(size))


def request(rule: str, *, answer: int = 0, content: int = 0) -> bytes:
    head = f"{'POST' if content else 'GET'} /{rule}/{answer} HTTP/1.1\r\nHost: {HOST}\r\n"
    length = f"Content-Length: {content}\r\n" if content else ""
    return f"{head}{length}\r\n".encode() + bytes(content)


def carrier(limited: str = "", limit: str = "") -> Carrier:
    return Carrier([f"http://{HOST}/{rule},id={rule}{f',{limit}' if rule == limited else ''}" for rule in RULES])


def large(rule: str, direction: str) -> bytes:
    return request(rule, answer=LARGE) if direction == "received" else request(rule, content=LARGE)


async def exchanged(carried: Carrier, said: Sequence[bytes]) -> tuple[Outcome, Server, float]:
    """What came of it, also at the server, and the seconds that it took."""
    server = Server()
    outcome = await carried.exchange(said, HOST, server.connect)
    return outcome, server, asyncio.get_running_loop().time()


#: The rule that opens a connection, that of its large request, the one with a limit, and the direction.
CASES = tuple(product(RULES, RULES, RULES, ("sent", "received"), (False, True)))
each_case = pytest.mark.parametrize(("opens", "serves", "limited", "direction", "at_once"), CASES)


def said_by(opens: str, serves: str, direction: str, *, at_once: bool) -> list[bytes]:
    first, second = request(opens, answer=1), large(serves, direction)
    return [first + second] if at_once else [first, second]


@each_case
def test_bytes_are_those_of_the_rule_that_allows_the_request(
    opens: str, serves: str, limited: str, direction: str, *, at_once: bool
) -> None:
    """The limit of one rule stops it, and no other; what each had adds up to what the connection carried."""
    limit = LARGE // 2
    said = said_by(opens, serves, direction, at_once=at_once)
    outcome, server, _ = run(lambda: exchanged(carrier(limited, f"bytes={limit}"), said))
    closed = outcome.closed()
    assert set(closed) == {opens, serves}
    assert [it.rule for it in outcome.events if it.kind is NetworkEventKind.OPENED] == list(
        dict.fromkeys((opens, serves))
    )
    assert all((it.name, it.address, it.port) == (HOST, ADDRESS, 80) for it in outcome.events)
    stops = serves == limited
    assert {rule: it.code for rule, it in closed.items()} == {
        rule: Denial.LIMIT_BYTES if stops and rule == serves else "" for rule in closed
    }
    assert sum(it.sent for it in closed.values()) == server.got
    assert server.dialed_by == [opens]
    assert sum(it.received for it in closed.values()) == len(outcome.answer)
    if stops:
        assert closed[serves].sent + closed[serves].received <= limit
    else:
        assert getattr(closed[serves], direction) > LARGE


@each_case
def test_a_rate_is_that_of_the_rule_that_allows_the_request(
    opens: str, serves: str, limited: str, direction: str, *, at_once: bool
) -> None:
    said = said_by(opens, serves, direction, at_once=at_once)
    outcome, _, seconds = run(lambda: exchanged(carrier(limited, f"rate={LARGE // 8}"), said))
    assert getattr(outcome.closed()[serves], direction) > LARGE
    if serves == limited:
        assert seconds > 5
    else:
        assert seconds < 1


@pytest.mark.parametrize("limited", RULES)
def test_what_is_used_up_is_refused_on_an_open_connection(limited: str) -> None:
    (other,) = set(RULES) - {limited}
    carried = carrier(limited, "bytes=1000")

    async def both() -> tuple[Outcome, Outcome]:
        spent, _, _ = await exchanged(carried, [request(other), request(limited, answer=2000)])
        refused, _, _ = await exchanged(carried, [request(other), request(limited)])
        return spent, refused

    spent, refused = run(both)
    assert spent.closed()[limited].code == Denial.LIMIT_BYTES
    assert refused.verdict == (limited, Denial.LIMIT_BYTES)
    assert refused.answer.endswith(b"[limit-bytes]\n")
    assert set(refused.closed()) == {other}


@pytest.mark.parametrize("limited", RULES)
def test_a_connection_counts_for_each_rule_that_it_is_used_by(limited: str) -> None:
    (other,) = set(RULES) - {limited}
    carried = carrier(limited, "connections=1")

    async def meanwhile() -> list[Outcome]:
        loop = asyncio.get_running_loop()
        async with carried.open(HOST, Server().connect) as (client, events):
            for rule in (other, limited, limited):
                await loop.sock_sendall(client, request(rule))
                await loop.sock_recv(client, 1 << 16)
            said = ([request(limited)], [request(other), request(limited)], [request(other)])
            found = [(await exchanged(carried, one))[0] for one in said]
        assert [it.rule for it in events if it.kind is NetworkEventKind.OPENED] == [other, limited]
        return [*found, (await exchanged(carried, [request(other), request(limited)]))[0]]

    refused = (limited, Denial.LIMIT_CONNECTIONS)
    assert [it.verdict for it in run(meanwhile)] == [refused, refused, (other, ""), (limited, "")]


def test_an_answer_that_cant_be_followed_is_told_of_the_rule_of_its_request() -> None:
    async def serve() -> Outcome:
        far, near = socket.socketpair()
        near.setblocking(False)

        async def answer() -> None:
            loop = asyncio.get_running_loop()
            with near:
                await loop.sock_recv(near, 1 << 16)
                await loop.sock_sendall(near, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxSSH-2.0\r\n\r\n")
                await loop.sock_recv(near, 1)

        answering = asyncio.create_task(answer())
        outcome = await carrier().exchange([request("a") + request("b") + request("a")], HOST, lambda _: far)
        await answering
        return outcome

    closed = run(serve).closed()
    assert {rule: it.code for rule, it in closed.items()} == {"a": "", "b": Denial.BAD_ANSWER}


def test_the_last_answer_says_that_it_is_and_the_server_is_closed() -> None:
    """A client that keeps its connection open gets its end."""

    async def kept() -> bytes:
        loop, answer = asyncio.get_running_loop(), b""
        async with carrier().open(HOST, Server().connect) as (client, events):
            await loop.sock_sendall(client, request("a", content=5) + request("b") * 9)
            await loop.sock_sendall(client, request("b", content=100_000))  # unread, it would break the answer off
            while data := await loop.sock_recv(client, 1 << 16):
                answer += data
        assert [it.rule for it in events] == ["a", "a"]
        return answer

    assert run(kept) == b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def test_what_comes_behind_the_last_request_is_not_read() -> None:
    """A client that sends without end waits for the answer, as one does whom a server doesn't read."""

    async def floods() -> None:
        loop = asyncio.get_running_loop()
        far, near = socket.socketpair()
        async with carrier().open(HOST, lambda _: far) as (client, _):
            with near:
                await loop.sock_sendall(client, request("a", content=5))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(EVENT_PATIENCE):
                        await loop.sock_sendall(client, bytes(4 << 20))

    run(floods)


@pytest.mark.parametrize("status", ["200 OK", "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"])
def test_what_was_held_behind_an_upgrade_goes_first(status: str) -> None:
    """The answer waits for its rule's rate; what the client says meanwhile isn't sent before what it said earlier."""
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nX: %s\r\n\r\n" % bytes(4096).replace(b"\0", b"x")
    upgrade = request("a").replace(b"\r\n\r\n", b"\r\n" + upgrade)
    content = request("b")
    head = request("b", content=len(content)).removesuffix(bytes(len(content)))

    async def overtakes() -> bytes:
        loop = asyncio.get_running_loop()
        far, near = socket.socketpair()
        near.setblocking(False)
        async with carrier("a", "rate=1024").open(HOST, lambda _: far) as (client, _):
            await loop.sock_sendall(client, upgrade + head)
            got = await loop.sock_recv(near, 1 << 16)
            await loop.sock_sendall(near, f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            await asyncio.sleep(QUIET)
            await loop.sock_sendall(client, content)
            client.shutdown(socket.SHUT_WR)
            while data := await loop.sock_recv(near, 1 << 16):
                got += data
            near.close()
        return got

    assert run(overtakes).removeprefix(upgrade).replace(b"Connection: close\r\n", b"") == head + content


def test_a_refusal_comes_behind_a_whole_answer() -> None:
    """An answer that waits for its rule's rate, or for a client that reads late, isn't broken off by a refusal."""
    said = [request("a", answer=1), request("a", answer=5000) + request("nothing")]
    outcome, _, _ = run(lambda: exchanged(carrier("a", "rate=1024"), said))
    assert outcome.verdict[1] == Denial.PATH
    _, _, last = outcome.answer.split(b"HTTP/1.1 200 OK")[1:][-1].partition(b"\r\n\r\n")
    assert last.startswith(bytes(5000) + b"HTTP/1.1 403")
