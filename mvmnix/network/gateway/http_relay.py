"""Carries one connection of HTTP/1.1, each request of which is read and held against the rules (http_heads.py).

1. Nothing is dialed before the first request is allowed: the connection is dialed by the rule that allows it.
2. Each request is of the rule that allows it, and so are its bytes and those of its answer: that rule's limits hold for
   them. A connection counts as one of each rule that it is used by, and each use is told as a connection is.
3. A request that is refused is answered once those before it have their answers, and ends the connection. If they don't
   get them whole, the connection is reset: the client would take the refusal for the rest of an answer.
4. Where there is a last request (http_checker.py), both sides are closed once it is answered.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mvmnix.network.gateway.dialer_client import ServerConnection
from mvmnix.network.gateway.http_checker import HttpChecker, HttpRefusedError, Part, Passed
from mvmnix.network.gateway.http_heads import HeadError, HttpFault
from mvmnix.network.gateway.meters import RuleMeter
from mvmnix.network.gateway.opening import DeniedError, finish, portion, write_all
from mvmnix.network.policy.decisions import Denial, Rules, Verdict, refused
from mvmnix.network.policy.request_paths import RequestHead
from mvmnix.network.sockets import reset
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Protocol

_PORTION: Final = 1 << 14
#: Seconds for answers to requests before one that is refused.
_SETTLE: Final = 30.0


@dataclass(slots=True)
class _Use:
    """Bytes of a connection's requests that one rule allows, and of their answers; and the rule's meter."""

    meter: RuleMeter
    sent: int = 0
    received: int = 0


class HttpRelay:
    """One connection to a name's port."""

    def __init__(
        self,
        rules: Rules,
        host: str,
        port: int,
        *,
        meter: Callable[[str], RuleMeter],
        dial: Callable[[str], Awaitable[ServerConnection]],
        tell: Callable[[NetworkEvent], None],
        leave: Callable[[socket.socket], None],
    ) -> None:
        """By a rule's id, `meter` is that rule's, and `dial` gives a connection to the server.

        `dial` raises DeniedError. `leave` begins to end a connection to a server.
        """
        self._rules, self._host, self._port = rules, host, port
        self._meter, self._dial, self._tell, self._leave = meter, dial, tell, leave
        self._checker = HttpChecker(host, port, self._judge, strict=rules.names_requests(host, port))
        self._verdict: Verdict | None = None
        self._uses: dict[str, _Use] = {}
        self._server: ServerConnection | None = None
        #: What was refused, and is told once earlier requests have their answers.
        self._refused: DeniedError | None = None
        #: Held from reading requests until they are sent, so that a server gets them in the order of their reading.
        self._sending = asyncio.Lock()
        #: Whether some of an answer is read and not written yet.
        self._answers = False

    async def serve(self, guest: socket.socket, said: bytes, deadline: float) -> None:
        """Carry a connection that begins so until either side ends. Raises OSError.

        Raises DeniedError for what is refused: the guest is still to be told.
        """
        try:
            passed = await self._first(guest, said, deadline)
            self._server = await self._dial(passed.sent[0].rule)  # 1
            await self._carry(guest, self._server, passed.sent)
            if self._refused is not None:
                raise self._refused
            if self._checker.is_closing:  # 4
                with suppress(OSError, TimeoutError):
                    await finish(guest)
        except DeniedError as denied:
            denied.said = denied.said or said
            raise
        finally:
            for use in self._uses.values():
                use.meter.close()

    def _judge(self, request: RequestHead) -> str:
        verdict = self._rules.http(self._host, self._port, request)
        if verdict.allowed and (code := self._use(verdict.rule)) is not None:
            verdict = refused(code, verdict.rule)
        self._verdict = verdict
        if not verdict.allowed:
            raise HeadError(HttpFault.RULE, request)
        return verdict.rule

    def _use(self, rule: str) -> Denial | None:
        """Count the connection for a rule (2). Return the limit that forbids that, None where none does."""
        meter = self._meter(rule)
        if meter.is_spent:
            return Denial.LIMIT_BYTES
        if rule not in self._uses:
            if not meter.open():
                return Denial.LIMIT_CONNECTIONS
            self._uses[rule] = _Use(meter)
            if self._server is not None:
                self._tell(self._event(self._server, NetworkEventKind.OPENED, rule))
        return None

    def _event(self, server: ServerConnection, kind: NetworkEventKind, rule: str, code: str = "") -> NetworkEvent:
        use, number = self._uses[rule], server.number
        asked = kind, rule, code, self._host, server.address, self._port
        return NetworkEvent(*asked, use.sent, use.received, connection=number)

    def _denied(self, error: HttpRefusedError) -> DeniedError:
        """Make the denial of a fault."""
        code, rule = Denial.BAD_HTTP, self._checker.latest_rule
        if error.fault is HttpFault.HOST:
            code = Denial.HOST_MISMATCH
        elif error.fault is HttpFault.RULE and self._verdict is not None:
            code, rule = self._verdict.code or code, self._verdict.rule
        denied = DeniedError(code, rule)
        denied.protocol = Protocol.HTTP
        denied.method = "" if error.request is None else error.request.method
        return denied

    async def _first(self, guest: socket.socket, said: bytes, deadline: float) -> Passed:
        """What is sent to the server first: a whole request's head, and what came with it. Raises DeniedError."""
        try:
            passed = self._checker.feed_client(said)
            while not passed.requests:
                data = await portion(guest, deadline)
                if not data:
                    raise DeniedError(Denial.BAD_HTTP)
                passed = self._checker.feed_client(data)
        except HttpRefusedError as error:
            denied, passed = self._denied(error), error.passed
            if not passed.requests:
                raise denied from error
            self._refused = denied
        return passed

    async def _carry(self, guest: socket.socket, server: ServerConnection, first: Iterable[Part]) -> None:
        """Carry until either side ends, and tell each rule's begin and end."""
        for rule in self._uses:
            self._tell(self._event(server, NetworkEventKind.OPENED, rule))
        ended: _EndedError | None = None
        try:
            try:
                await self._run(guest, server.socket, first)
            except BaseException:
                server.socket.close()
                raise
            self._leave(server.socket)
        except _EndedError as error:
            ended = error
            reset(guest)
        except OSError:
            reset(guest)
        finally:
            for rule in self._uses:
                code = ended.code if ended is not None and ended.rule == rule else ""
                self._tell(self._event(server, NetworkEventKind.CLOSED, rule, code))

    async def _run(self, guest: socket.socket, server: socket.socket, first: Iterable[Part]) -> None:
        await self._send(server, first)
        asking = asyncio.create_task(self._ask(guest, server))
        answering = asyncio.create_task(self._answer(guest, server))
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                if await asking:
                    await self._settle(answering)
                else:
                    await answering
            elif not asking.done() or asking.exception() is None:
                answering.result()
            if asking.done():
                asking.result()
            if self._refused is not None:
                self._refused.can_be_told = self._is_settled
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    @property
    def _is_settled(self) -> bool:
        """Whether the client has all answers to requests that were passed on."""
        return self._checker.is_settled and not self._answers

    async def _settle(self, answering: "asyncio.Task[None]") -> None:
        """Wait for the answers of earlier requests."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE
        while not self._is_settled and not answering.done() and loop.time() < end:
            await asyncio.wait((answering,), timeout=0.02)

    async def _ask(self, guest: socket.socket, server: socket.socket) -> bool:
        """Whether it ended by a refusal."""
        while self._refused is None and (data := await _portion(guest)):
            async with self._sending:
                if self._checker.is_client_done:
                    return False
                try:
                    passed = self._checker.feed_client(data)
                except HttpRefusedError as error:
                    self._refused = self._denied(error)
                    passed = error.passed
                await self._send(server, passed.sent)
        if self._refused is None:
            server.shutdown(socket.SHUT_WR)
        return self._refused is not None

    async def _answer(self, guest: socket.socket, server: socket.socket) -> None:
        while data := await _portion(server):
            self._answers = True
            try:
                passed = self._checker.feed_server(data)
            except HttpRefusedError as error:
                if error.fault is HttpFault.RESPONSE:
                    raise _EndedError(Denial.BAD_ANSWER, self._checker.rule) from error
                self._refused = self._refused or self._denied(error)  # what was held behind an upgrade
                passed = error.passed
            if passed.sent:  # before more is read of the guest, which the answer may wait for
                async with self._sending:
                    await self._send(server, passed.sent)
            for part in passed.received:
                await self._charge(part)
                self._uses[part.rule].received += len(part.data)
                await write_all(guest, part.data)
            self._answers = False
            if self._checker.is_done or (self._refused is not None and self._checker.is_settled):
                return
        if self._refused is None:
            guest.shutdown(socket.SHUT_WR)

    async def _send(self, server: socket.socket, parts: Iterable[Part]) -> None:
        for part in parts:
            await self._charge(part)
            self._uses[part.rule].sent += len(part.data)
            await write_all(server, part.data)

    async def _charge(self, part: Part) -> None:
        """Count bytes once the rate of their rule has room for them, before they are passed on. Raises _EndedError."""
        meter = self._uses[part.rule].meter
        while (debt := meter.debt) > 0:  # noqa: ASYNC110 - others' bytes make it longer meanwhile
            await asyncio.sleep(debt)
        if meter.take(len(part.data)) is None:
            raise _EndedError(Denial.LIMIT_BYTES, part.rule)


async def _portion(source: socket.socket) -> bytes:
    """Receive the next bytes of one side, after other tasks had their turn."""
    await asyncio.sleep(0)
    return await asyncio.get_running_loop().sock_recv(source, _PORTION)


class _EndedError(ConnectionAbortedError):
    """A connection that is ended here, with the reason's code: a rule's bytes are spent, or an answer is refused."""

    def __init__(self, code: Denial, rule: str) -> None:
        super().__init__(code)
        self.code, self.rule = code, rule
