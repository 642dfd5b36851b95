"""Checks every request of an HTTP/1.x connection whose bytes are passed on as they are; bytes in, bytes out, no I/O.

The numbers go on in http_heads.py, which reads a single head:

1. A head has at most 32 KiB, its lines end with CRLF, and what can't become a request is refused before its end. HTTP/2
   with prior knowledge is told by its preface (RFC 9113, 3.4).
7. An upgrade waits until earlier requests are answered; no more than 128 requests wait for their responses. A chunked
   body has neither extensions nor trailer fields (http_bodies.py).
8. The caller's rules allow the request. Where rules name methods or paths (`strict`), an upgrade is the first request
   of its connection, and a request with content the last: a server that doesn't read the content would take it for
   another request (RFC 9112, 11.2). Both sides are told so by `Connection: close`, and what follows isn't passed on.

Responses are followed as far as it takes to know which request is being answered, so that all bytes are of a request,
and of the rule that allows it. After 101 to an upgrade all bytes pass. What a client sends between its upgrade and the
answer is held, up to 32 KiB; nothing else is, but heads that aren't whole.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Final, NoReturn

from mvmnix.network.gateway.http_bodies import Body, BodyError, SizedBody
from mvmnix.network.gateway.http_heads import (
    MAX_HEAD_BYTES,
    MAX_RESPONSE_HEAD_BYTES,
    HeadError,
    HttpFault,
    RequestRule,
    read_request,
    read_response,
    with_close,
)
from mvmnix.network.policy.request_paths import RequestHead

#: Requests that may wait for their responses at once.
MAX_PIPELINED: Final = 128

_TOKEN: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]"
#: The longest methods that IANA lists have 17 characters.
_LINE: Final = re.compile(rb"%s{1,32} [!-~]+ HTTP/[0-9]\.[0-9]" % _TOKEN)
#: How the first bytes of a line may look that isn't whole.
_BEGINNING: Final = re.compile(rb"%s{0,32}|%s{1,32} [!-~]*( [!-~]*\r?)?" % (_TOKEN, _TOKEN))
_LOOKED_AT: Final = 256
_BARE: Final = re.compile(rb"(?<!\r)\n|\r[^\n]")
_END_OF_RESPONSE_HEAD: Final = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a request or of its answer, and the id of the rule that allows the request."""

    rule: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Passed:
    """What is to be passed on to the server and to the client, and the requests that began in it."""

    sent: tuple[Part, ...] = ()
    received: tuple[Part, ...] = ()
    requests: tuple[RequestHead, ...] = ()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that waits for its answer."""

    request: RequestHead
    rule: str


class HttpRefusedError(Exception):
    """A connection that goes no further.

    `fault` says why, for machines; `request` is the one that is refused, if its head could be read. `passed` is what
    came before it: it may be passed on, so that earlier requests get their answers. Once `HttpChecker.is_settled`, the
    client takes an answer of our own (http_heads.py, `refusal`).
    """

    def __init__(self, fault: HttpFault, request: RequestHead | None = None, passed: Passed | None = None) -> None:
        super().__init__(fault.value)
        self.fault = fault
        self.request = request
        self.passed = passed or Passed()


class HttpChecker:
    """One connection, for the caller to feed with what comes from either side."""

    def __init__(self, host: str, port: int, rule: RequestRule, *, strict: bool) -> None:
        """`host` is the name that was looked up, in lower case without a dot at its end, `port` the connection's."""
        self._host = host
        self._port = port
        self._rule = rule
        self._strict = strict
        self._refusal: tuple[HttpFault, RequestHead | None] | None = None
        # from the client: a head that isn't whole, or what is held after an upgrade
        self._buffer = bytearray()
        self._scanned = 0
        self._body: Body = SizedBody(0)
        self._upgrading = False
        #: Whether the server took the upgrade: from then on nothing is looked at.
        self.is_tunnel = False
        self._begun = False
        #: The rule of the latest request, "" before the first.
        self.latest_rule = ""
        #: Whether the last request of the connection has begun.
        self.is_closing = False
        # from the server
        self._waiting = deque[_Waiting]()
        self._head = bytearray()
        self._answer: Body | None = None

    @property
    def is_settled(self) -> bool:
        """Whether all requests that were passed on are answered, so that the client takes an answer of our own."""
        return not self._waiting and not self.is_tunnel

    @property
    def is_client_done(self) -> bool:
        """Whether the last request of the connection was passed on: what the client sends now is discarded."""
        return self.is_closing and self._body.ended

    @property
    def is_done(self) -> bool:
        """Whether the last request of the connection is answered."""
        return self.is_closing and self.is_settled

    @property
    def rule(self) -> str:
        """The rule of the request that is being answered, or of the latest one."""
        return self._waiting[0].rule if self._waiting else self.latest_rule

    def feed_client(self, data: bytes) -> Passed:
        """What came from the client. Raises HttpRefusedError, and the same again for what comes after that."""
        if self._refusal is not None:
            raise HttpRefusedError(*self._refusal)
        if self.is_tunnel:
            return Passed(_join([Part(self.latest_rule, data)]))
        if self._upgrading:
            self._hold(data, Passed())
            return Passed()
        return self._requests(data)

    def feed_server(self, data: bytes) -> Passed:
        """What came from the server. What the client sent after an upgrade may be passed on with it.

        Raises HttpRefusedError. After a refusal of the client it may be fed on, for the answers of earlier requests.
        """
        if self._refusal is not None and self._refusal[0] is HttpFault.RESPONSE:
            raise HttpRefusedError(*self._refusal)
        upgrading = self._upgrading
        try:
            received = _join(self._responses(data))
        except (BodyError, HeadError):
            self._refuse(HttpFault.RESPONSE, None, Passed())
        if not upgrading or self._upgrading:
            return Passed(received=received)
        held = bytes(self._buffer)
        self._buffer.clear()
        if self.is_tunnel:
            return Passed(_join([Part(self.latest_rule, held)]), received)
        try:
            return replace(self._requests(held), received=received)
        except HttpRefusedError as refusal:
            refusal.passed = replace(refusal.passed, received=received)
            raise

    def _hold(self, data: bytes, passed: Passed) -> None:
        self._buffer += data
        if len(self._buffer) > MAX_HEAD_BYTES:
            self._refuse(HttpFault.TOO_LONG, None, passed)

    def _refuse(self, fault: HttpFault, request: RequestHead | None, passed: Passed) -> NoReturn:
        self._refusal = (fault, request)
        self._buffer.clear()
        raise HttpRefusedError(fault, request, passed)

    def _requests(self, data: bytes) -> Passed:
        """Pass on bodies as they come, and heads once they are whole."""
        sent, begun, at = list[Part](), list[RequestHead](), 0
        try:
            while at < len(data) and not self._upgrading and not self.is_client_done:
                start, at = at, self._body.advance(data, at)
                sent.append(Part(self.latest_rule, data[start:at]))
                if self._body.ended and not self.is_client_done:
                    at, head = self._next_head(data, at)
                    if head:
                        begun.append(self._begin(head))
                        sent.append(Part(self.latest_rule, with_close(head) if self.is_closing else head))
        except BodyError:
            self._refuse(HttpFault.CHUNKS, None, Passed(_join(sent), requests=tuple(begun)))
        except HeadError as error:
            self._refuse(error.fault, error.request, Passed(_join(sent), requests=tuple(begun)))
        passed = Passed(_join(sent), requests=tuple(begun))
        if not self.is_client_done:
            self._hold(data[at:], passed)
        return passed

    def _next_head(self, data: bytes, at: int) -> tuple[int, bytes]:
        """Where in `data` the head ends, and the head, which is empty until it is whole."""
        # 1. the form
        before = len(self._buffer)
        self._buffer += data[at : at + MAX_HEAD_BYTES + 1 - before]
        found = self._buffer.find(b"\r\n\r\n", max(before - 3, 0))
        end = found + 4 if found >= 0 else len(self._buffer)
        self._scan(end)
        if end > MAX_HEAD_BYTES:
            raise HeadError(HttpFault.TOO_LONG)
        if found < 0:
            return at + end - before, b""
        head = bytes(self._buffer[:end])
        self._buffer.clear()
        self._scanned = 0
        return at + end - before, head

    def _scan(self, end: int) -> None:
        """Refuse what is wrong in a head that may not be whole."""
        start = max(self._scanned - 1, 0)
        self._scanned = end
        if _BARE.search(self._buffer, start, end):
            raise HeadError(HttpFault.LINE_ENDING)
        line = self._buffer.find(b"\r\n", 0, end)
        if 0 <= line < start:
            return
        if self._buffer.startswith(b"PRI * HTTP/2"):
            raise HeadError(HttpFault.HTTP2)
        whole = _LINE.fullmatch(self._buffer, 0, line) if line >= 0 else None
        if not (whole or (line < 0 and _BEGINNING.fullmatch(self._buffer, 0, min(end, _LOOKED_AT)))):
            raise HeadError(HttpFault.MALFORMED)

    def _begin(self, head: bytes) -> RequestHead:
        """Check a head, and expect its body next. Raises HeadError."""
        request, body = read_request(head, self._host, self._port)
        # 7. what waits
        if request.upgrade and self._waiting:
            raise HeadError(HttpFault.UPGRADE, request)
        if len(self._waiting) >= MAX_PIPELINED:
            raise HeadError(HttpFault.PIPELINED, request)
        # 8. the rules
        if self._strict and request.upgrade and self._begun:
            raise HeadError(HttpFault.UPGRADE, request)
        self.latest_rule = self._rule(request)
        self._begun = True
        self.is_closing = self._strict and request.has_content
        self._body = body
        self._upgrading = request.upgrade
        waiting = replace(request, target="")  # which may be long, and there may be many
        self._waiting.append(_Waiting(waiting, self.latest_rule))
        return request

    def _responses(self, data: bytes) -> list[Part]:
        """Follow responses: all that came, but for a head that isn't whole. Raises HeadError and BodyError."""
        received, at = list[Part](), 0
        while at < len(data) and not self.is_tunnel:
            start, rule = at, self.rule
            if self._answer:
                at = self._answer.advance(data, at)
                received.append(Part(rule, data[start:at]))
            else:
                at, head = self._response_head(data, at)
                received.append(Part(rule, head))
            if self._answer and self._answer.ended:
                self._answer = None
                self._waiting.popleft()
        return [*received, Part(self.rule, data[at:])]

    def _response_head(self, data: bytes, at: int) -> tuple[int, bytes]:
        """Where in `data` the head ends, or `data` itself; and the head, which is empty until it is whole."""
        if not self._waiting:
            raise HeadError(HttpFault.RESPONSE)
        before = len(self._head)
        self._head += data[at : at + MAX_RESPONSE_HEAD_BYTES - before]
        found = _END_OF_RESPONSE_HEAD.search(self._head, max(before - 2, 0))
        if found is None:
            if len(self._head) == MAX_RESPONSE_HEAD_BYTES:
                raise HeadError(HttpFault.RESPONSE)
            return at + len(self._head) - before, b""
        head = bytes(self._head[: found.end()])
        self._head.clear()
        response = read_response(head, self._waiting[0].request)
        self.is_tunnel = response.status == 101
        if response.status >= 200:
            self._answer = response.body
        self._upgrading = self._upgrading and response.status < 200 and not self.is_tunnel
        is_last = self.is_closing and len(self._waiting) == 1 and response.status >= 200
        return at + len(head) - before, with_close(head) if is_last else head


def _join(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Join parts that follow each other and are of one rule; empty ones are left out."""
    turns = groupby((part for part in parts if part.data), attrgetter("rule"))
    return tuple(Part(rule, b"".join(part.data for part in turn)) for rule, turn in turns)
