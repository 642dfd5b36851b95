"""A machine's process in conversation with the caller that it is started for: the frontend and the means of its start.

Each packet is bounded and typed, and its sender is judged (launch/control/caller_check.py): a socket may be handed on.
A caller that hangs up, or says what isn't expected, ends a machine that is not detached.
"""

import select
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.codec import LIMIT, clean_text, encode
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.pool_messages import PoolRequest
from mvmnix.launch.control.server import Control
from mvmnix.launch.control.start_messages import (
    LONGEST_TEXT,
    MOST_DESCRIPTORS,
    CallerMessage,
    Connect,
    Detach,
    GuestConnected,
    Logged,
    Notice,
    Question,
    Reply,
    SecretsResolved,
    SecretsWanted,
    SharesOpened,
    SharesWanted,
    StartRequest,
    StopRequest,
    TerminalResized,
    name_descriptors,
    parse_caller,
    parse_request,
)
from mvmnix.launch.secrets.resolve import unpack
from mvmnix.launch.shares.opening import OpenedShares, check_handed
from mvmnix.plan.secret_reference import Secret, SecretReference
from mvmnix.plan.share import Share
from mvmnix.system import log
from mvmnix.system.descriptors import Packet, PacketError, close_apart, hang_up, receive_packet, send_packet
from mvmnix.system.loop import Loop
from mvmnix.system.stop_signals import StopRequestedError

#: Seconds within which a caller has to send its request, once there is something to read.
_PATIENCE: Final = 10.0


class Conversation:
    """One caller's connection. It is the frontend (api/frontend.py) and the means (launch/means.py) of the start."""

    def __init__(self, connection: socket.socket, check: CallerCheck) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._check = check
        self._loop: Loop | None = None
        self._can_ask = False
        self._control: Control | None = None
        self._resize: Callable[[int, int], None] | None = None
        #: Whether the machine goes on when the caller hangs up.
        self.is_detached = False

    # the request

    def read_request(self) -> tuple[StartRequest | PoolRequest, dict[str, int]]:
        """Read the request, and its descriptors by what they are, which are this process's to close.

        Raises UsageError for what is no request, RefusedError [caller-refused]; StopRequestedError where the caller
        hung up.
        """
        request, named = self._receive_judged(_PATIENCE, _read_request)
        self.take_over(request)
        return request, named

    def take_over(self, request: StartRequest | PoolRequest) -> None:
        """Go on with a caller whose request was read, by this process or the one that handed it over."""
        self._can_ask = request.can_ask
        if request.log:
            log.hand_on(request.log, self._log)

    def fileno(self) -> int:
        """The descriptor of the caller's connection."""
        return self._connection.fileno()

    def let_go(self) -> None:
        """Leave the caller to another process, which has the connection, too."""
        self._connection.close()

    def say(self, message: object, descriptors: Sequence[int] = ()) -> bool:
        """Send a message; whether the caller was there to take it. One that reads nothing is not waited for."""
        try:
            send_packet(self._connection, encode(message), descriptors)
        except (OSError, ValueError):
            return False
        return True

    def _log(self, level: str, area: str, text: str) -> None:
        self.say(Logged(level, area[:64], clean_text(text, LONGEST_TEXT)))

    # the frontend

    def notice(self, text: str) -> None:
        """Have the caller show a line of prose."""
        self.say(Notice(clean_text(text, LONGEST_TEXT)))

    def can_ask(self) -> bool:
        """Whether the caller said that it can answer questions."""
        return self._can_ask and not self.is_detached

    def ask(self, what: str) -> str:
        """Return what the caller answers. Raises what it failed with."""
        reply, descriptors = self._demand(Question(clean_text(what, LONGEST_TEXT)))
        close_apart(descriptors)
        if not isinstance(reply, Reply):
            raise _unexpected(reply)
        return reply.text

    def interruptible(self, loop: Loop) -> AbstractContextManager[None]:  # noqa: ARG002 - of the protocol
        """Change nothing: a supervisor has its own handlers (launch/runtime/supervisor.py)."""
        return nullcontext()

    # the means

    def open_shares(self, shares: Sequence[Share]) -> OpenedShares:
        """Have the caller open the directories of shares, and judge what it hands over."""
        reply, descriptors = self._demand(SharesWanted(tuple(shares)))
        if not isinstance(reply, SharesOpened):
            close_apart(descriptors)
            raise _unexpected(reply)
        found, left = OpenedShares(reasons=list(reply.reasons)), list(descriptors)
        for share in shares:
            if share.guest not in reply.opened or not left:
                continue
            found.directories[share.guest] = left.pop(0)
            if share.writable and left:
                found.proofs[share.guest] = left.pop(0)
            try:
                check_handed(share, found.directories[share.guest], found.proofs.get(share.guest))
            except RefusedError as refused:
                found.reasons += refused.reasons
        close_apart(left)
        if not found.reasons and found.directories.keys() != {share.guest for share in shares}:
            found.close()
            raise _unexpected(reply)
        return found

    def resolve_secrets(self, references: Sequence[SecretReference]) -> tuple[Secret, ...]:
        """Have the caller resolve secrets, and read the sealed memory that it hands over."""
        reply, descriptors = self._demand(SecretsWanted(tuple(references)))
        try:
            if not isinstance(reply, SecretsResolved) or len(descriptors) != 1:
                raise _unexpected(reply)
            return unpack(references, reply.sizes, descriptors[0])
        finally:
            close_apart(descriptors)

    # while the machine runs

    def watch(self, loop: Loop) -> None:
        """Have the loop serve the caller from now on: it raises StopRequestedError where the machine is to end."""
        self._loop = loop
        loop.watch(self._connection.fileno(), read=self._readable)

    def serve(self, control: Control) -> None:
        """Let the caller call the machine by connections of its own making."""
        self._control = control

    def drive(self, command: Command) -> None:
        """Have the caller's terminal be this command's, whose size it tells."""
        self._resize = command.resize

    def guest_connected(self, port: int, descriptor: int) -> bool:
        """Hand the caller a connection of the guest's; whether it took it."""
        return self.say(GuestConnected(port), (descriptor,))

    def close(self) -> None:
        """Hang up. A second call does nothing."""
        if self._connection.fileno() >= 0:
            if self._loop is not None:
                self._loop.forget(self._connection.fileno())
            hang_up(self._connection)

    def _readable(self) -> None:
        try:
            packet = receive_packet(self._connection, LIMIT, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except (PacketError, OSError):
            packet = Packet(b"", ())
        left = list(packet.descriptors)
        try:
            message = self._judge(packet)
            if message is None:
                self._hung_up()
            else:
                self._follow(message, left)
        except ValueError:
            self._hung_up()
        finally:
            close_apart(left)
            if packet.sender is not None:
                packet.sender.close()

    def _judge(self, packet: Packet) -> CallerMessage | None:
        """Return what the caller says; None where it hung up, or where another says something in its place."""
        try:
            self._check.check_call(packet.sender)  # nothing is started by it: a caller's own limits are its matter
            return parse_caller(packet.data) if packet.data else None
        except (ValueError, MvmnixError):
            return None

    def _follow(self, message: CallerMessage, descriptors: list[int]) -> None:
        match message:
            case StopRequest(number):
                raise StopRequestedError(_stop_signal(number))
            case TerminalResized(rows, columns):  # without effect on a command that has no terminal
                if self._resize is not None:
                    self._resize(rows, columns)
            case Connect() if self._control is not None and len(descriptors) == 1:
                self._adopt(self._control, descriptors)
            case Detach():
                self.is_detached = True
                self.close()
            case _:
                raise ValueError(f"the caller said {type(message).__name__} out of turn")

    def _adopt(self, control: Control, descriptors: list[int]) -> None:
        """Serve a connection that the caller made. Raises ValueError for what is none."""
        try:
            connection = socket.socket(fileno=descriptors[0])
        except OSError as error:
            raise ValueError("a connection is a socket") from error
        if (connection.family, connection.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            connection.detach()
            raise ValueError("a connection is a socket of sequenced packets")
        del descriptors[0]
        control.adopt(connection)

    def _hung_up(self) -> None:
        """End a machine that is its caller's."""
        self.close()
        if not self.is_detached:
            raise StopRequestedError(signal.SIGHUP)

    def _demand(self, question: object) -> tuple[CallerMessage, tuple[int, ...]]:
        """Ask the caller for something and wait; the answer, and its descriptors, which are this process's to close.

        Raises what the caller failed with; StopRequestedError where it hung up, or ends the start.
        """
        if self.is_detached or not self.say(question):
            raise StopRequestedError(signal.SIGHUP)
        while True:
            reply, descriptors = self._receive_judged(None, _read_reply)
            match reply:
                case StopRequest(number):
                    close_apart(descriptors)
                    raise StopRequestedError(_stop_signal(number))
                case Failure():
                    close_apart(descriptors)
                    raise reply.to_error()
                case TerminalResized():  # it answers nothing
                    close_apart(descriptors)
                case _:
                    return reply, descriptors

    def _receive_judged[T](self, seconds: float | None, read: Callable[[Packet], T]) -> T:
        """Wait for a packet of a caller that may start machines, and read it; its descriptors are the reader's then.

        Raises as `_receive` does; UsageError where `read` raises ValueError; RefusedError [caller-refused].
        """
        packet = self._receive(seconds)
        try:
            self._check.check_start(packet.sender)
            found = read(packet)
        except ValueError as error:
            packet.close()
            raise _unreadable(error) from error
        except BaseException:
            packet.close()
            raise
        if packet.sender is not None:
            packet.sender.close()
        return found

    def _receive(self, seconds: float | None) -> Packet:
        """Wait for a packet. Raises UsageError for one that is too large, StopRequestedError at the end."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        try:
            if poll.poll(None if seconds is None else seconds * 1000):
                packet = receive_packet(self._connection, LIMIT, MOST_DESCRIPTORS)
                if packet.data:
                    return packet
                packet.close()
        except PacketError as error:
            raise _unreadable(error) from error
        except OSError as error:  # it has hung up
            raise StopRequestedError(signal.SIGHUP) from error
        raise StopRequestedError(signal.SIGHUP)


def _read_request(packet: Packet) -> tuple[StartRequest | PoolRequest, dict[str, int]]:
    """Return a request, and its descriptors by what they are. Raises ValueError."""
    request = parse_request(packet.data)
    return request, name_descriptors(request, packet.descriptors)


def _read_reply(packet: Packet) -> tuple[CallerMessage, tuple[int, ...]]:
    """Return what a caller answers, and its descriptors. Raises ValueError."""
    return parse_caller(packet.data), packet.descriptors


def _stop_signal(number: int) -> int:
    """Return the signal that a caller names, if it is one that stops a supervisor; SIGTERM otherwise."""
    return number if number in {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT} else signal.SIGTERM


def _unreadable(error: ValueError) -> UsageError:
    hint = "the two may be of different versions of mvm"
    return UsageError(f"what the caller sent can't be read: {error}", hint=hint)


def _unexpected(message: object) -> MvmnixError:
    hint = "the two may be of different versions of mvm"
    return MvmnixError(f"the caller said {type(message).__name__} out of turn", hint=hint)
