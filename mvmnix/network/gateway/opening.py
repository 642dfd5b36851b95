"""Reads what a guest says first, within bounds of bytes and time, and answers what is refused in the guest's protocol.

1. Bytes come in portions until a TLS hello or a request's head is whole: so many, in so many seconds.
2. A hello is held against the rules; one that may ask for another name than can be read is refused.
3. A refusal is written at once, and the guest gets a moment to read it: closing while its bytes are unread would have
   the kernel take the answer back (RFC 9293, section 3.6.1).
"""

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mvmnix.network.gateway.client_hello import (
    Alert,
    ClientHello,
    ClientHelloReader,
    HelloFault,
    HelloRefusedError,
    alert_record,
)
from mvmnix.network.policy.decisions import Denial, Verdict
from mvmnix.network.sockets import reset
from mvmnix.plan.network import Protocol

#: Seconds until the guest has said what it wants; that a refusal waits for its first bytes, and for it to be read.
HEAD_SECONDS: Final = 15.0
_POLITE: Final = 0.3
_FAREWELL: Final = 1.0
_PORTION: Final = 16 << 10
_HANDSHAKE: Final = 22
#: A method as a rule may name it, whose end may be yet to come.
_REQUEST: Final = re.compile(rb"[A-Z][A-Z-]{0,31}(?: |\Z)")
#: Denials that aren't the guest's doing: a server that can't be reached.
_UPSTREAM: Final = frozenset({Denial.RESOLVE_FAILED, Denial.CONNECT_FAILED})
_ALERTS: Final = {Denial.SNI_MISMATCH: Alert.UNRECOGNIZED_NAME, Denial.NO_SNI: HelloFault.NO_SERVER_NAME.alert}


class DeniedError(Exception):
    """Why a connection is refused: by which rule, about which address; `said` is what the guest has said so far.

    `alert` tells a guest that speaks TLS.
    """

    def __init__(
        self,
        code: Denial,
        rule: str = "",
        address: str = "",
        *,
        said: bytes = b"",
        alert: Alert = Alert.ACCESS_DENIED,
    ) -> None:
        super().__init__(code)
        #: Of a request that was read: for the words that tell of it.
        self.protocol: Protocol | None = None
        self.method = ""
        #: Whether the guest can be told: not within an answer of a server's.
        self.can_be_told = True
        self.code, self.rule, self.address, self.said, self.alert = code, rule, address, said, alert


async def portion(guest: socket.socket, deadline: float) -> bytes:
    """What comes next; b"" at its end. Raises DeniedError [too-slow], OSError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            return await loop.sock_recv(guest, _PORTION)
    except TimeoutError as error:
        raise DeniedError(Denial.TOO_SLOW) from error


async def read_hello(
    guest: socket.socket, said: bytes, judged: Callable[[str | None], Verdict], deadline: float
) -> tuple[Verdict, bytes]:
    """What the rules say of a hello that begins with these bytes; and all bytes that came.

    `judged` is told the hello's server name, None where it has none. Raises DeniedError, OSError.
    """
    reader = ClientHelloReader()
    hello: ClientHello | None = None
    sni: str | None = None
    try:
        hello = reader.feed(said)
        while hello is None:
            data = await portion(guest, deadline)
            if not data:
                raise DeniedError(Denial.BAD_CLIENT_HELLO, said=reader.received)
            hello = reader.feed(data)
        sni = hello.server_name
    except HelloRefusedError as error:
        if error.fault is not HelloFault.NO_SERVER_NAME:
            raise DeniedError(Denial.BAD_CLIENT_HELLO, said=reader.received, alert=error.fault.alert) from error
    verdict = judged(sni)
    if not verdict.allowed:
        code = verdict.code or Denial.NO_RULE
        raise DeniedError(code, verdict.rule, said=reader.received, alert=_ALERTS.get(code, Alert.ACCESS_DENIED))
    if hello is not None and hello.hides_a_name:
        raise DeniedError(Denial.ECH, verdict.rule, said=reader.received)
    return verdict, reader.received


def speaks_tls(said: bytes) -> bool:
    """Whether this is how a TLS client begins."""
    return said[:1] == bytes((_HANDSHAKE,))


def speaks_http(said: bytes) -> bool:
    """Whether this is how a request of HTTP/1.1 begins."""
    return _REQUEST.match(said) is not None


async def write_all(to: socket.socket, data: bytes) -> None:
    """Raises OSError."""
    if data:
        await asyncio.get_running_loop().sock_sendall(to, data)


async def refuse(guest: socket.socket, denied: DeniedError, words: str) -> None:
    """End a connection so that a program in the guest learns why (3)."""
    loop, said = asyncio.get_running_loop(), denied.said
    with suppress(OSError, TimeoutError):
        if not said:
            async with asyncio.timeout(_POLITE):
                said = await loop.sock_recv(guest, _PORTION)
        answer = _answer(denied, said, words) if denied.can_be_told else b""
        if answer:
            await finish(guest, answer)
            guest.close()
            return
    reset(guest)


async def finish(guest: socket.socket, answer: bytes = b"") -> None:
    """Write the last of a connection, and give the guest a moment to read it (3). Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_FAREWELL):
        await loop.sock_sendall(guest, answer)
        guest.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(guest, _PORTION):
            pass


def refusal(sentence: str, *, status: str = "403 Forbidden", method: str = "") -> bytes:
    r"""A response with a sentence of plain text, after which the connection is closed; HEAD has none (RFC 9110, 9.3.2).

    >>> print(refusal("POST is not allowed").decode().replace("\r", ""))
    HTTP/1.1 403 Forbidden
    Content-Type: text/plain; charset=utf-8
    Content-Length: 20
    Connection: close
    <BLANKLINE>
    POST is not allowed
    <BLANKLINE>
    """
    text = f"{sentence}\n".encode()
    head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + (b"" if method == "HEAD" else text)


def _answer(denied: DeniedError, said: bytes, words: str) -> bytes:
    if speaks_tls(said):
        return alert_record(Alert.INTERNAL_ERROR if denied.code in _UPSTREAM else denied.alert)
    if speaks_http(said):
        status = "502 Bad Gateway" if denied.code in _UPSTREAM else "403 Forbidden"
        return refusal(words, status=status, method=denied.method or said.partition(b" ")[0].decode())
    return b""
