"""What a caller does while a machine is started for it, and until its end: steps that a driver runs (drivers.py).

It answers what it is asked: opens the directories that the verified plan shares, resolves its secrets, asks the user
for a password. Nothing of that is done for a plan that wasn't verified: the other end asks once it was.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final, Protocol

from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.launch.control.connection import Connection, ConnectionLostError, UnansweredError
from mvmnix.launch.control.drivers import Steps, Work
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.pool_messages import PoolRequest, PoolsKept
from mvmnix.launch.control.start_messages import (
    Created,
    Ended,
    GuestConnected,
    Logged,
    Mode,
    Notice,
    Question,
    Reply,
    SecretsResolved,
    SecretsWanted,
    SharesOpened,
    SharesWanted,
    Started,
    StartRequest,
    StopRequest,
    Taken,
    parse_event,
)
from mvmnix.launch.means import Means
from mvmnix.launch.secrets.resolve import pack
from mvmnix.launch.shares.opening import OpenedShares
from mvmnix.system import log
from mvmnix.system.descriptors import Packet
from mvmnix.system.stop_signals import StopRequestedError

#: Seconds that a launcher has to read a request, on a loaded machine; it may have to import first what starts machines.
_PATIENCE: Final = 120.0
#: What to do where it doesn't.
_STILL: Final = "end it (mvm launcher stop), or start without it (--private-launcher)"
#: What a launcher may lack that ends before it reads a request.
_SHORT: Final = "try again; memory, processes or descriptors may be short here (dmesg, ulimit -a)"


#: What a request comes to.
type Answer = Started | Created | Ended | PoolsKept


class NotTakenError(ConnectionLostError):
    """The request was read by no process: nothing of it was done, and it may be sent again."""


class Caller(Protocol):
    """What the start of a machine asks of its caller; called by the thread that runs the driver, or a worker of it."""

    means: Means

    def notice(self, text: str) -> None:
        """Show the user a line of prose, which may hold strings from a guest or a server."""

    def answer(self, question: str) -> str:
        """Return the secret that the question asks for. Raises MvmnixError without one."""

    def guest_connected(self, port: int, descriptor: int) -> None:
        """Take over the descriptor of a connection that the guest opened to this port."""


def begin(
    connection: Connection, request: StartRequest | PoolRequest, descriptors: Iterable[int], caller: Caller
) -> Steps[Answer]:
    """Ask for a machine, and answer what is asked until it is there, or has ended where it was only to be saved.

    The descriptors stay the caller's.

    Raises ConnectionLostError, NotTakenError where it may be sent again; what the other end answered, and what it takes
    from the caller's own means; StopRequestedError where a signal came before a machine was there that is held, for
    who holds it would call it.
    """
    try:
        yield from connection.send(request, descriptors)
        taken = parse_event((yield from connection.receive(_PATIENCE)).data)
    except UnansweredError as error:  # it may do so yet, so nothing is sent again
        raise ConnectionLostError(f"the launcher hasn't answered for {_PATIENCE} seconds", hint=_STILL) from error
    except ConnectionLostError as error:
        raise NotTakenError(f"nothing was started: {error.message}", hint=_SHORT) from error
    match taken:
        case Taken():
            pass
        case Failure():
            raise taken.to_error()
        case _:
            raise _unexpected(taken)
    mode = request.mode if isinstance(request, StartRequest) else None
    stop: StopRequest | None = None
    while True:
        event = yield from next_event(connection, caller)
        if isinstance(event, StopRequest):
            stop = event
        elif stop is not None and mode is Mode.HELD and isinstance(event, Started):
            raise StopRequestedError(stop.number)
        elif isinstance(event, Started | Created | PoolsKept) or (isinstance(event, Ended) and mode is Mode.SAVED):
            return event
        elif event is not None:
            raise _unexpected(event)


def finish(connection: Connection, caller: Caller) -> Steps[Ended]:
    """Wait for the end of a machine that was started. Raises what the other end answered."""
    while True:
        event = yield from next_event(connection, caller)
        if isinstance(event, Ended):
            return event
        if event is not None and not isinstance(event, StopRequest):
            raise _unexpected(event)


def next_event(connection: Connection, caller: Caller) -> Steps[Answer | StopRequest | None]:
    """Wait for the next packet, and answer it; return what is no question and no notice.

    A signal that a driver raises where it waits (system/stop_signals.py) is handed on and returned: the machine ends as
    it would by that signal, and so does the conversation. Raises what the other end answered instead.
    """
    try:
        packet = yield from connection.receive()
    except StopRequestedError as request:
        stop = StopRequest(request.number)
        connection.tell(stop)
        return stop
    return (yield from _answer(connection, packet, caller))


def _answer(connection: Connection, packet: Packet, caller: Caller) -> Steps[Answer | None]:
    event = parse_event(packet.data)
    if isinstance(event, GuestConnected) and packet.descriptors:
        caller.guest_connected(event.port, packet.descriptors[0])
        return None
    packet.close()
    match event:
        case Started() | Created() | Ended() | PoolsKept():
            return event
        case Failure():
            raise event.to_error()
        case Notice(text):
            caller.notice(text)
        case Logged(level, area, text):
            log.relay(level, area, text)
        case Question(text):
            yield from _reply(connection, text, caller)
        case SharesWanted():
            yield from _open_shares(connection, event, caller)
        case SecretsWanted():
            yield from _resolve_secrets(connection, event, caller)
        case _:
            raise _unexpected(event)
    return None


def _reply(connection: Connection, question: str, caller: Caller) -> Steps[None]:
    try:
        text = yield Work(lambda: caller.answer(question))
    except MvmnixError as error:
        yield from connection.send(Failure.of(error))
    else:
        yield from connection.send(Reply(text))


def _open_shares(connection: Connection, wanted: SharesWanted, caller: Caller) -> Steps[None]:
    found = yield Work(lambda: caller.means.open_shares(wanted.shares), OpenedShares.close)
    with ExitStack() as stack:
        stack.callback(found.close)
        reply = SharesOpened(tuple(found.directories), tuple(found.reasons))
        yield from connection.send(reply, found.descriptors)


def _resolve_secrets(connection: Connection, wanted: SecretsWanted, caller: Caller) -> Steps[None]:
    try:
        secrets = yield Work(lambda: caller.means.resolve_secrets(wanted.secrets))
    except RefusedError as refused:
        yield from connection.send(Failure.of(refused))
        return
    packed = pack(secrets)
    try:
        yield from connection.send(SecretsResolved(tuple(len(each.value) for each in secrets)), (packed,))
    finally:
        os.close(packed)


def _unexpected(event: object) -> MvmnixError:
    return MvmnixError(f"the machine's process said {type(event).__name__} out of turn", hint="report this as a bug")
