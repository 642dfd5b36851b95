"""Tries a row against a server that says what it saw."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.patience import EVENT_PATIENCE
from tests.unit.network.http_port import Carrier
from tests.unit.network.http_rows import ALLOW, DENY, Row


@dataclass(frozen=True, slots=True)
class Seen:
    """A server: a connection to it, and all requests that it has seen since it was started."""

    connect: Callable[[], socket.socket]
    all: Callable[[], Sequence[str]]


def try_row(row: Row, server: Seen) -> list[str]:
    """What a server saw of a row, whose verdict is as it stands there.

    The server is given all that the gateway sent, and then its end, whatever the gateway closed before.
    """
    before = len(server.all())
    given = list[socket.socket]()

    def connect(_: str) -> socket.socket:
        made = server.connect()
        given.append(made.dup())
        return made

    outcome = asyncio.run(Carrier(ALLOW, DENY).exchange(row.said, row.host, connect))
    for connection in given:
        connection.settimeout(EVENT_PATIENCE)
        with connection, suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
    assert outcome.verdict == (row.rule, row.code), outcome
    assert bool(given) == bool(row.seen), "what is refused first isn't dialed"
    return list(server.all()[before:])
