"""A fork of the launcher with its caller: each packet is bounded, typed and judged, and nothing of it stays open."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import override

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError
from mvmnix.launch.agent.commands import Command
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.messages import Ping, Stream
from mvmnix.launch.control.server import Control
from mvmnix.launch.control.start_messages import (
    MOST_DESCRIPTORS,
    Connect,
    Detach,
    GuestConnected,
    Mode,
    Notice,
    Question,
    Reply,
    SharesOpened,
    StartRequest,
    StopRequest,
    TerminalResized,
)
from mvmnix.launcher.conversation import Conversation
from mvmnix.plan.share import Share
from mvmnix.system.loop import Loop
from mvmnix.system.stop_signals import StopRequestedError
from tests.patience import SHORT
from tests.support.confinement import filter_calls
from tests.support.forks import fork_that
from tests.unit.launcher.talk import Talk, all_closed, fill, own_descriptors, sent, stream_socket

REQUEST = StartRequest(mode=Mode.DETACHED, created="0" * 12, can_ask=True)
COUNT = len(REQUEST.descriptors)


# the request


def test_a_request_and_its_descriptors_are_read(said: Talk) -> None:
    with sent(said, REQUEST, COUNT):
        request, named = said.conversation.read_request()
        assert request == REQUEST
        assert tuple(named) == REQUEST.descriptors
        assert not any(os.get_inheritable(fd) for fd in named.values())
        assert said.conversation.can_ask()
        for fd in named.values():
            os.close(fd)


@pytest.mark.parametrize(
    ("message", "count", "words"),
    [
        (REQUEST, COUNT - 1, "more descriptors than were announced, or fewer"),
        (REQUEST, COUNT + 1, "more descriptors than were announced, or fewer"),
        (REQUEST, 0, "more descriptors than were announced, or fewer"),
        (REQUEST, MOST_DESCRIPTORS + 1, f"with more than {MOST_DESCRIPTORS} descriptors"),
        (replace(REQUEST, streams=(Stream.STDIN, Stream.STDIN)), COUNT + 2, "one of them twice"),
        (replace(REQUEST, image=("kernel", "kernel")), COUNT + 2, "one of them twice"),
        (encode(REQUEST)[:-20], COUNT, "not JSON"),
        (b"x" * (LIMIT + 1), 0, f"more than {LIMIT} bytes"),
        (encode(REQUEST).replace(b'"version":2', b'"version":3'), COUNT, "speaks version 3"),
        (encode(REQUEST).replace(b'"mode":"detached"', b'"mode":"sideways"'), COUNT, "mode"),
        (encode(REQUEST).replace(b'"mode"', b'"made":1,"mode"'), COUNT, "unknown"),
        (Ping(), 0, "not one message of a kind that is expected here"),
        (StopRequest(1), 2, "not one message of a kind that is expected here"),
    ],
    ids=[
        *("fewer", "more", "none", "too many", "stream twice", "file twice", "half", "long", "version"),
        *("mode", "field", "call", "later"),
    ],
)
def test_what_is_no_request_is_one_clear_error(said: Talk, message: object, count: int, words: str) -> None:
    with sent(said, message, count), pytest.raises(UsageError, match=words) as caught:
        said.conversation.read_request()
    assert "version" in caught.value.hint or "another mvm" in caught.value.hint


def test_a_caller_that_closes_before_its_request(said: Talk) -> None:
    said.caller.close()
    with pytest.raises(StopRequestedError):
        said.conversation.read_request()


def test_a_caller_that_says_nothing_is_given_up(said: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launcher.conversation._PATIENCE", SHORT)
    with pytest.raises(StopRequestedError):
        said.conversation.read_request()


def test_a_request_of_a_confined_process_is_refused(said: Talk) -> None:
    def send() -> None:
        filter_calls()
        said.say(REQUEST, own_descriptors(COUNT))

    with fork_that(send), all_closed(), pytest.raises(RefusedError) as refused:
        said.conversation.read_request()
    assert refused.value.codes == (ReasonCode.CALLER_REFUSED,)


# the frontend


def test_a_question_is_answered(said: Talk) -> None:
    said.say(Reply("a passphrase"))
    assert said.conversation.ask("The passphrase\0?") == "a passphrase"
    assert said.heard() == Question("The passphrase\N{REPLACEMENT CHARACTER}?")


def test_a_terminal_that_is_resized_answers_no_question(said: Talk) -> None:
    said.say(TerminalResized(24, 80))
    said.say(Reply("a passphrase"))
    assert said.conversation.ask("?") == "a passphrase"


@pytest.mark.parametrize(
    ("message", "count", "kind", "words"),
    [
        (Failure.of(UsageError("no terminal")), 0, UsageError, "no terminal"),
        (SharesOpened(()), 2, MvmnixError, "SharesOpened out of turn"),
        (Connect(), 1, MvmnixError, "Connect out of turn"),
        (StopRequest(signal.SIGINT), 0, StopRequestedError, "SIGINT"),
        (StopRequest(signal.SIGKILL), 1, StopRequestedError, "SIGTERM"),
        (b'{"reply":', 1, UsageError, "not JSON"),
        (b"x" * (LIMIT + 1), 1, UsageError, "more than"),
        (Reply("x"), MOST_DESCRIPTORS + 1, UsageError, "descriptors"),
        (Ping(), 0, UsageError, "expected here"),
    ],
    ids=["failure", "other", "connect", "signal", "other signal", "half", "long", "descriptors", "call"],
)
def test_what_is_no_answer(said: Talk, message: object, count: int, kind: type[MvmnixError], words: str) -> None:
    with sent(said, message, count), pytest.raises(kind, match=words):
        said.conversation.ask("?")


def test_an_answer_with_descriptors_leaves_none_open(said: Talk) -> None:
    with sent(said, Reply("x"), 3):
        assert said.conversation.ask("?") == "x"


def test_a_caller_that_closes_while_it_is_asked(said: Talk) -> None:
    said.caller.close()
    with pytest.raises(StopRequestedError) as ended:
        said.conversation.ask("?")
    assert ended.value.number == signal.SIGHUP


@pytest.mark.parametrize("ask", [lambda talk: talk.ask("?"), lambda talk: talk.open_shares((Share("/srv", "/data"),))])
def test_an_answer_of_a_confined_process_is_refused(said: Talk, ask: Callable[[Conversation], object]) -> None:
    def send() -> None:
        filter_calls()
        said.say(Reply("x"), own_descriptors(2))

    with fork_that(send), all_closed(), pytest.raises(RefusedError) as refused:
        ask(said.conversation)
    assert refused.value.codes == (ReasonCode.CALLER_REFUSED,)


def test_a_caller_that_reads_nothing_is_not_waited_for(said: Talk) -> None:
    fill(said.conversation._connection)
    said.conversation.notice("x")
    with pytest.raises(StopRequestedError):
        said.conversation.ask("?")


@pytest.mark.parametrize("text", ["x" * 100_000, "\N{GRINNING FACE}" * 100_000, "\udcff\0"])
def test_a_notice_arrives_whatever_is_in_it(said: Talk, text: str) -> None:
    said.conversation.notice(text)
    found = said.heard()
    assert isinstance(found, Notice)
    assert found.text


def test_a_caller_without_a_user_is_not_asked(said: Talk) -> None:
    with sent(said, replace(REQUEST, can_ask=False), COUNT):
        _, named = said.conversation.read_request()
        assert not said.conversation.can_ask()
        for fd in named.values():
            os.close(fd)


# while the machine runs


class Adopted(Control):
    """A control socket that takes in connections, and nothing else."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []

    @override
    def adopt(self, connection: socket.socket) -> None:
        self.connections.append(connection)


@pytest.fixture
def loop(said: Talk) -> Iterator[Loop]:
    """A loop that serves the caller."""
    made = Loop()
    said.conversation.watch(made)
    yield made
    said.conversation.close()
    made.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_caller_ends_its_machine(said: Talk, loop: Loop, number: int) -> None:
    said.say(StopRequest(number))
    with pytest.raises(StopRequestedError) as ended:
        loop.turn(0)
    assert ended.value.number == number


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"", 0),
        (b"x", 1),
        (b"x" * (LIMIT + 1), 1),
        (Reply("x"), 2),
        (SharesOpened(()), 1),
        (Connect(), 1),
        (Failure.of(UsageError("x")), 0),
        (Ping(), 0),
    ],
    ids=["nothing", "no message", "long", "reply", "shares", "connect", "failure", "call"],
)
def test_who_says_what_is_not_expected_has_hung_up(said: Talk, loop: Loop, message: object, count: int) -> None:
    descriptors = own_descriptors(count)
    said.say(message, descriptors)
    for fd in descriptors:
        os.close(fd)
    keep, fd = os.dup(said.caller.fileno()), said.conversation._connection.fileno()
    with all_closed():
        with pytest.raises(StopRequestedError) as ended:
            loop.turn(0)
        assert os.dup(keep) == fd, "it is open still"
    assert ended.value.number == signal.SIGHUP
    os.close(fd)
    os.close(keep)


def test_a_caller_that_is_gone_ends_its_machine(said: Talk, loop: Loop) -> None:
    said.caller.close()
    with pytest.raises(StopRequestedError) as ended:
        loop.turn(0)
    assert ended.value.number == signal.SIGHUP


def test_a_confined_process_in_the_callers_place_has_hung_up(said: Talk, loop: Loop) -> None:
    def send() -> None:
        filter_calls()
        said.say(StopRequest(signal.SIGTERM))

    with fork_that(send), pytest.raises(StopRequestedError) as ended:
        loop.turn(0)
    assert ended.value.number == signal.SIGHUP


def test_a_detached_machine_goes_on(said: Talk, loop: Loop) -> None:
    said.say(Detach())
    loop.turn(0)
    assert said.conversation.is_detached
    assert said.caller.recv(1) == b"", "it was not hung up on"
    with pytest.raises(StopRequestedError):
        said.conversation.ask("?")


def test_a_terminal_is_resized_once_a_command_has_it(said: Talk, loop: Loop) -> None:
    sizes: list[tuple[int, int]] = []

    class Resized(Command):
        def __init__(self) -> None:
            """Have no guest."""

        @override
        def resize(self, rows: int, columns: int) -> None:
            sizes.append((rows, columns))

    said.say(TerminalResized(1, 2))
    loop.turn(0)
    said.conversation.drive(Resized())
    said.say(TerminalResized(24, 80))
    loop.turn(0)
    assert sizes == [(24, 80)]


def test_a_connection_of_the_callers_is_served(said: Talk, loop: Loop) -> None:
    control = Adopted()
    said.conversation.serve(control)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            said.say(Connect(), (theirs.fileno(),))
        loop.turn(0)
        (taken,) = control.connections
        with taken:
            ours.send(b"x")
            assert taken.recv(1) == b"x"


@pytest.mark.parametrize(
    "make",
    [
        stream_socket,
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
        lambda: socket.socket(socket.AF_INET).detach(),
        lambda: os.open(__file__, os.O_RDONLY),
        lambda: os.open("/", os.O_PATH),
        lambda: os.eventfd(0),
    ],
    ids=["stream", "datagrams", "internet", "file", "path", "event"],
)
def test_what_is_no_connection(said: Talk, loop: Loop, make: Callable[[], int]) -> None:
    control = Adopted()
    said.conversation.serve(control)
    fd = make()
    said.say(Connect(), (fd,))
    os.close(fd)
    with pytest.raises(StopRequestedError):
        loop.turn(0)
    assert control.connections == []


def test_a_connection_of_the_guests_is_handed_over(said: Talk) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert said.conversation.guest_connected(80, theirs.fileno())
        assert said.heard() == GuestConnected(80)
        fill(said.conversation._connection)
        assert not said.conversation.guest_connected(80, theirs.fileno())


def test_closing_twice_is_closing_once(said: Talk, loop: Loop) -> None:
    said.conversation.close()
    said.conversation.close()
    assert loop is not None
    assert not said.conversation.say(Notice("x"))
