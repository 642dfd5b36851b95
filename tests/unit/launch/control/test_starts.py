"""The caller's side of a start: what is asked is answered, in any order, and what is out of turn ends it."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.connection import Connection, ConnectionLostError
from mvmnix.launch.control.drivers import Steps, Wait, run
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.messages import Done
from mvmnix.launch.control.start_messages import (
    MOST_DESCRIPTORS,
    CallerMessage,
    Created,
    Ended,
    GuestConnected,
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
    parse_caller,
)
from mvmnix.launch.control.starts import Answer, NotTakenError, begin, finish
from mvmnix.launch.means import Means, OwnMeans
from mvmnix.launch.secrets.resolve import unpack
from mvmnix.plan.secret_reference import SecretReference, SecretSource, SecretTarget
from mvmnix.plan.share import Access, Share
from mvmnix.system.descriptors import receive_packet, send_packet
from mvmnix.system.stop_signals import StopRequestedError
from tests.descriptors import nothing_left_open

DIGEST = "sha256:" + "0" * 64
STARTED = Started("0" * 12, "kvm", DIGEST, DIGEST, ("planner",), "qemu")
ENDED = Ended(3, "0" * 12, "finished", DIGEST, "/receipt")
REQUEST = StartRequest(mode=Mode.DETACHED)


@dataclass
class Answering:
    """A caller with an answer for each question."""

    means: Means = field(default_factory=OwnMeans)
    notices: list[str] = field(default_factory=list)
    connected: list[tuple[int, int]] = field(default_factory=list)
    answer: Callable[[str], str] = lambda question: question.upper()

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def guest_connected(self, port: int, descriptor: int) -> None:
        self.connected.append((port, descriptor))


class Other:
    """The other end: what it says lies there before it is read."""

    def __init__(self, end: socket.socket, connection: Connection) -> None:
        self.end = end
        self.connection = connection

    def say(self, *said: object) -> None:
        """Say messages, or these very bytes."""
        for each in said:
            send_packet(self.end, each if isinstance(each, bytes) else encode(each))

    def heard(self) -> tuple[CallerMessage, tuple[int, ...]]:
        """Return what the caller says next, and its descriptors."""
        packet = receive_packet(self.end, LIMIT, MOST_DESCRIPTORS)
        return parse_caller(packet.data), packet.descriptors

    def request(self) -> bytes:
        """Return the caller's request."""
        packet = receive_packet(self.end, LIMIT, MOST_DESCRIPTORS)
        packet.close()
        return packet.data


@pytest.fixture
def other() -> Iterator[Other]:
    """Both ends of a connection, which leave nothing open."""
    with nothing_left_open():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, Connection(ours) as connection:
            yield Other(theirs, connection)


def start(other: Other, caller: Answering | None = None, descriptors: Iterable[int] = ()) -> Answer:
    return run(begin(other.connection, REQUEST, descriptors, caller or Answering()))


@pytest.mark.parametrize("event", [STARTED, Created("0" * 12)])
def test_a_machine_is_there(other: Other, event: Started | Created) -> None:
    other.say(Taken(7), event)
    assert start(other) == event
    assert other.request() == encode(REQUEST)


def test_notices_and_questions_are_answered_in_turn(other: Other) -> None:
    caller = Answering()
    other.say(Taken(7), Notice("one"), Question("first"), Notice("two"), Question("second"), STARTED)
    assert start(other, caller) == STARTED
    other.request()
    assert caller.notices == ["one", "two"]
    assert [other.heard()[0] for _ in range(2)] == [Reply("FIRST"), Reply("SECOND")]


def test_a_caller_without_an_answer_says_why(other: Other) -> None:
    def fail(_: str) -> str:
        raise UsageError("there is no terminal")

    other.say(Taken(7), Question("?"), STARTED)
    assert start(other, Answering(answer=fail)) == STARTED
    other.request()
    reply, _ = other.heard()
    assert isinstance(reply, Failure)
    assert reply.message == "there is no terminal"


def test_shares_are_opened_and_handed_over(other: Other, tmp_path: Path) -> None:
    for name in ("read", "write"):
        (tmp_path / name).mkdir()
    shares = (
        Share(str(tmp_path / "read"), "/read"),
        Share(str(tmp_path / "none"), "/none"),
        Share(str(tmp_path / "write"), "/write", Access.READ_WRITE),
    )
    other.say(Taken(7), SharesWanted(shares), STARTED)
    start(other)
    other.request()
    reply, descriptors = other.heard()
    assert isinstance(reply, SharesOpened)
    assert reply.opened == ("/read", "/write")
    assert [reason.code for reason in reply.reasons] == [ReasonCode.SHARE_UNAVAILABLE]
    assert len(descriptors) == 3, "two directories, and a file that was made in the second one"
    for fd in descriptors:
        os.close(fd)


def test_secrets_are_resolved_and_handed_over(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hush")
    wanted = (SecretReference("token", SecretTarget.FILE, SecretSource.VARIABLE, ("TOKEN",)),)
    other.say(Taken(7), SecretsWanted(wanted), STARTED)
    start(other)
    other.request()
    reply, (memory,) = other.heard()
    assert reply == SecretsResolved((4,))
    assert [secret.value for secret in unpack(wanted, (4,), memory)] == [b"hush"]
    os.close(memory)


def test_secrets_that_lead_nowhere_are_a_refusal_at_the_other_end(
    other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    wanted = (SecretReference("token", SecretTarget.FILE, SecretSource.VARIABLE, ("TOKEN",)),)
    refused = refuse(ReasonCode.SECRET_UNAVAILABLE, "the secret token", "why", "hint")
    other.say(Taken(7), SecretsWanted(wanted), Failure.of(refused))
    with pytest.raises(RefusedError):
        start(other)
    other.request()
    reply, descriptors = other.heard()
    assert isinstance(reply, Failure)
    assert [reason.code for reason in reply.reasons] == [ReasonCode.SECRET_UNAVAILABLE]
    assert descriptors == ()


def test_a_connection_of_the_guests_is_the_callers(other: Other) -> None:
    caller = Answering()
    ours, theirs = socket.socketpair()
    other.say(Taken(7))
    send_packet(other.end, encode(GuestConnected(80)), (theirs.fileno(),))
    theirs.close()
    other.say(STARTED)
    start(other, caller)
    ((port, descriptor),) = caller.connected
    assert port == 80
    with socket.socket(fileno=descriptor) as taken, ours:
        taken.send(b"x")
        assert ours.recv(1) == b"x"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ((), NotTakenError, "ended without an answer"),
        ((Failure.of(UsageError("no")),), UsageError, "no"),
        ((STARTED,), MvmnixError, "Started out of turn"),
        ((Taken(7),), ConnectionLostError, "ended without an answer"),
        ((Taken(7), Taken(7)), MvmnixError, "Taken out of turn"),
        ((Taken(7), ENDED), MvmnixError, "Ended out of turn"),
        ((Taken(7), GuestConnected(80)), MvmnixError, "GuestConnected out of turn"),
        ((Taken(7), Failure.of(UsageError("no"))), UsageError, "no"),
        ((Taken(7), b"x" * (LIMIT + 1)), ConnectionLostError, "more than"),
        ((Taken(7), b'{"taken"'), ValueError, "not JSON"),
        ((Taken(7), Done()), ValueError, "expected here"),
        ((Taken(7), encode(STARTED).replace(b'"version":2', b'"version":9')), UsageError, "speaks version 9"),
    ],
)
def test_a_start_ends_where_the_other_end_does(
    other: Other, said: tuple[object, ...], kind: type[Exception], words: str
) -> None:
    other.say(*said)
    other.end.shutdown(socket.SHUT_WR)
    with pytest.raises(kind, match=words) as ended:
        start(other)
    assert isinstance(ended.value, NotTakenError) is (said == ())


def test_a_request_that_was_not_read_may_be_sent_again(other: Other) -> None:
    other.end.close()
    with pytest.raises(NotTakenError):
        start(other)


def test_the_end_of_a_machine(other: Other) -> None:
    caller = Answering()
    other.say(Notice("it ends"), Question("?"), ENDED)
    assert run(finish(other.connection, caller)) == ENDED
    assert caller.notices == ["it ends"]


@pytest.mark.parametrize("event", [STARTED, Created("0" * 12)])
def test_a_second_beginning_is_out_of_turn(other: Other, event: object) -> None:
    other.say(event)
    with pytest.raises(MvmnixError, match="out of turn"):
        run(finish(other.connection, Answering()))


@pytest.mark.parametrize("closes", [False, True], ids=["killed", "closed"])
def test_the_wait_for_an_end_ends_with_the_process(other: Other, closes: bool) -> None:
    """Whether it has read what it was told, or not."""
    if not closes:
        other.connection.tell(StopRequest(15))
    other.end.close()
    with pytest.raises(ConnectionLostError, match="ended without an answer"):
        run(finish(other.connection, Answering()))


def test_an_answer_is_heard_though_its_sender_left_something_unread(other: Other) -> None:
    other.connection.tell(StopRequest(15))
    other.say(ENDED)
    other.end.close()
    assert run(finish(other.connection, Answering())) == ENDED


def test_a_signal_while_one_waits_is_handed_on(other: Other) -> None:
    def interrupted(steps: Steps[Ended]) -> Ended:
        request = next(steps)
        assert isinstance(request, Wait)
        steps.throw(StopRequestedError(2))
        other.say(ENDED)
        with pytest.raises(StopIteration) as end:
            while True:
                steps.send(frozenset())
        assert isinstance(end.value.value, Ended)
        return end.value.value

    assert interrupted(finish(other.connection, Answering())) == ENDED
    assert other.heard()[0] == StopRequest(2)


@pytest.mark.parametrize("mode", [Mode.HELD, Mode.ATTACHED])
def test_a_signal_that_crosses_the_start(other: Other, mode: Mode) -> None:
    """Who holds the machine would call it, and hear that it has ended; the command of another one ends by itself."""

    def interrupted(steps: Steps[Answer]) -> Answer:
        other.say(Taken(7))
        next(steps)
        steps.send(frozenset({other.connection.fileno()}))
        steps.throw(StopRequestedError(15))
        other.say(STARTED)
        with pytest.raises(StopIteration) as end:
            while True:
                steps.send(frozenset({other.connection.fileno()}))
        answer: Answer = end.value.value
        return answer

    starting = begin(other.connection, StartRequest(mode=mode), (), Answering())
    if mode is Mode.ATTACHED:
        assert interrupted(starting) == STARTED
    else:
        with pytest.raises(StopRequestedError) as stopped:
            interrupted(starting)
        assert stopped.value.exit_code == 143
    other.request()
    assert other.heard()[0] == StopRequest(15)


def test_many_starts_leave_nothing_open(other: Other) -> None:
    with nothing_left_open():
        for _ in range(100):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, Connection(ours) as connection:
                one = Other(theirs, connection)
                one.say(Taken(7), SharesWanted((Share("/usr", "/data"),)), Question("?"), STARTED, ENDED)
                start(one)
                run(finish(connection, Answering()))
    assert other.connection.fileno() >= 0
