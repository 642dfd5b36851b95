"""Carries one connection of HTTP/1.1, each request of which is read and held against the rules (http_heads.py).

1. Nothing is dialled before the first request is allowed: the connection is dialled by the rule that allows it.
2. A further request may be allowed by another rule of the same host and port; its bytes count for that one from then.
3. One that is refused is answered once those before it have their answers, and ends the connection. If they don't get
   them whole, the connection is reset: the client would take the refusal for the rest of an answer.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from mvmnix.launch.network.decisions import Denial, Rules, Verdict
from mvmnix.launch.network.http_checker import HttpChecker, HttpRefusedError
from mvmnix.launch.network.http_heads import HttpFault, RequestHead
from mvmnix.launch.network.meters import RuleMeter
from mvmnix.launch.network.opening import DeniedError, portion, write_all
from mvmnix.launch.plan import Protocol

_PORTION: Final = 1 << 14
#: Seconds for answers to requests before one that is refused.
_SETTLE: Final = 30.0
_FAULTS: Final = {
    HttpFault.HOST: Denial.HOST_MISMATCH,
    HttpFault.METHOD: Denial.METHOD,
    HttpFault.PATH: Denial.PATH,
}


class HttpRelay:
    """One connection to a name's port."""

    def __init__(self, rules: Rules, host: str, port: int, meter: Callable[[str], RuleMeter]) -> None:
        """`meter` is that of a rule, by its id."""
        self._rules, self._host, self._port, self._meter = rules, host, port, meter
        self._checker = HttpChecker(host, port, self._judge)
        self._verdict: Verdict | None = None
        self._opened: dict[str, RuleMeter] = {}
        #: What was refused, and is told once earlier requests have their answers.
        self._refused: DeniedError | None = None
        #: The rule that the last request was allowed by.
        self.rule = ""
        self.sent = self.received = 0

    def _judge(self, request: RequestHead) -> HttpFault | None:
        verdict = self._rules.http(self._host, self._port, self._host, request.method, request.target)
        self._verdict = verdict
        if verdict.allowed:
            meter = self._meter(verdict.rule)
            if verdict.rule in self._opened or meter.open():
                self._opened[verdict.rule] = meter
                self.rule = verdict.rule
                return None
            self._verdict = Verdict(allowed=False, rule=verdict.rule, code=Denial.LIMIT_CONNECTIONS)
        return HttpFault.METHOD if verdict.code is Denial.METHOD else HttpFault.PATH

    def denied(self, error: HttpRefusedError) -> DeniedError:
        """What stands for a fault."""
        code, rule = _FAULTS.get(error.fault, Denial.BAD_HTTP), self.rule
        if error.fault in {HttpFault.METHOD, HttpFault.PATH} and self._verdict is not None:
            code, rule = self._verdict.code or code, self._verdict.rule
        denied = DeniedError(code, rule)
        denied.protocol = Protocol.HTTP
        denied.method = "" if error.request is None else error.request.method
        return denied

    async def first(self, guest: socket.socket, said: bytes, deadline: float) -> bytes:
        """What is sent to the server first: a whole request's head, and what came with it. Raises DeniedError."""
        try:
            passed = self._checker.feed_client(said)
            while not passed.requests:
                data = await portion(guest, deadline)
                if not data:
                    raise DeniedError(Denial.BAD_HTTP, said=said)
                said += data
                passed = self._checker.feed_client(data)
        except HttpRefusedError as error:
            denied, passed = self.denied(error), error.passed
            denied.said = said
            if not passed.requests:
                raise denied from error
            self._refused = denied
        return passed.to_server

    async def run(self, guest: socket.socket, server: socket.socket, first: bytes) -> DeniedError | None:
        """Carry until either side ends. What is returned was refused, and is still to be told the guest.

        Raises OSError.
        """
        self._count_sent(first)
        await write_all(server, first)
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
                self._refused.can_be_told = self._checker.settled
            return self._refused
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    async def _settle(self, answering: "asyncio.Task[None]") -> None:
        """Wait for the answers of earlier requests."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE
        while not self._checker.settled and not answering.done() and loop.time() < end:
            await asyncio.wait((answering,), timeout=0.02)

    async def _ask(self, guest: socket.socket, server: socket.socket) -> bool:
        """Whether it ended by a refusal."""
        while self._refused is None and (data := await self._portion(guest)):
            try:
                passed = self._checker.feed_client(data)
            except HttpRefusedError as error:
                self._refused = self.denied(error)
                passed = error.passed
            self._count_sent(passed.to_server)
            await write_all(server, passed.to_server)
        if self._refused is None:
            server.shutdown(socket.SHUT_WR)
        return self._refused is not None

    async def _answer(self, guest: socket.socket, server: socket.socket) -> None:
        while data := await self._portion(server):
            try:
                passed = self._checker.feed_server(data)
            except HttpRefusedError as error:
                if error.fault is HttpFault.RESPONSE:
                    raise EndedError(Denial.BAD_ANSWER) from error
                self._refused = self._refused or self.denied(error)  # what was held behind an upgrade
                passed = error.passed
            self.received += len(passed.to_client)
            self._take(len(passed.to_client))
            await write_all(guest, passed.to_client)
            if passed.to_server:
                self._count_sent(passed.to_server)
                await write_all(server, passed.to_server)
            if self._refused is not None and self._checker.settled:
                return
        if self._refused is None:
            guest.shutdown(socket.SHUT_WR)

    async def _portion(self, source: socket.socket) -> bytes:
        """What one side says next, once the rule's rate has room; others have their turn before in any case."""
        await asyncio.sleep(self._meter(self.rule).debt)
        return await asyncio.get_running_loop().sock_recv(source, _PORTION)

    def _count_sent(self, data: bytes) -> None:
        self.sent += len(data)
        self._take(len(data))

    def _take(self, count: int) -> None:
        if self._meter(self.rule).take(count) is None:
            raise EndedError(Denial.LIMIT_BYTES)

    def close(self) -> None:
        """One connection less, for the rules that it was of."""
        for meter in self._opened.values():
            meter.close()
        self._opened.clear()


class EndedError(ConnectionAbortedError):
    """A connection that is ended here, with the reason's code: the rule's bytes are spent, or an answer is refused."""

    def __init__(self, code: Denial) -> None:
        super().__init__(code)
        self.code = code
