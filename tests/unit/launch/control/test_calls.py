"""A caller's streams and answers: all that was said before the end is handed out, and every call ends."""

import os
import socket
from collections.abc import Iterator
from itertools import repeat

import pytest

from mvmnix.errors import GuestTimeoutError, MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.launch.control import calls
from mvmnix.launch.control.calls import Exchange
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.connection import Connection, ConnectionLostError
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.messages import (
    Done,
    Exec,
    Exited,
    Pause,
    Ping,
    Request,
    Resume,
    Stop,
    Stream,
    Wait,
    parse_request,
)
from mvmnix.machines.exit_status import End, ExitStatus
from mvmnix.system.descriptors import receive_packet, send_packet
from tests.descriptors import nothing_left_open
from tests.patience import SHORT

STATUS = ExitStatus(End.EXITED, code=3)
GONE = Failure.of(MvmnixError("the machine has ended", hint="mvm ps --all says how"))


class Supervisor:
    """The other end of a call; a test plays it, a step at a time."""

    def __init__(self, end: socket.socket, connection: Connection) -> None:
        self.end = end
        self.connection = connection

    def take(self) -> tuple[Request, tuple[int, ...]]:
        """Return the request, and its descriptors."""
        packet = receive_packet(self.end, LIMIT, len(Stream))
        return parse_request(packet.data), packet.descriptors

    def say(self, message: object) -> None:
        """Answer."""
        send_packet(self.end, message if isinstance(message, bytes) else encode(message))


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """Both ends of a connection, which leave nothing open."""
    with nothing_left_open():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, Connection(ours) as connection:
            yield Supervisor(theirs, connection)


@pytest.mark.parametrize("request_", [Pause(), Resume(), Stop(), Stop(now=True), Wait(), Ping()])
def test_a_call_is_answered(supervisor: Supervisor, request_: Request) -> None:
    supervisor.say(Done())
    assert run(calls.call(supervisor.connection, request_)) is None
    assert supervisor.take() == (request_, ())


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (GONE, MvmnixError, "the machine has ended"),
        (Failure.of(UsageError("it is paused already")), UsageError, "it is paused already"),
        (Failure.of(refuse(ReasonCode.VERB_NOT_GRANTED, "exec", "w", "h")), RefusedError, "verb-not-granted"),
        (b"", ConnectionLostError, "ended without an answer"),
        (b"x" * (LIMIT + 1), ConnectionLostError, "more than"),
        (b"{}", ValueError, "no version"),
        (encode(Ping()), ValueError, "expected here"),
        (encode(Done()).replace(b":2", b":5"), UsageError, "speaks version 5"),
    ],
    ids=["gone", "usage", "refused", "empty", "long", "malformed", "request", "version"],
)
def test_what_is_answered_instead(supervisor: Supervisor, answer: object, kind: type[Exception], words: str) -> None:
    supervisor.say(answer)
    with pytest.raises(kind, match=words):
        run(calls.call(supervisor.connection, Wait()))


REQUESTS = [Pause(), Resume(), Stop(), Wait(), Ping(), Exec(("true",))]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
@pytest.mark.parametrize("is_read", [False, True], ids=["unread", "read"])
def test_every_call_ends_with_the_supervisor(supervisor: Supervisor, request_: Request, is_read: bool) -> None:
    steps = calls.call(supervisor.connection, request_)
    next(steps)
    if is_read:
        supervisor.take()
    supervisor.end.close()
    with pytest.raises(ConnectionLostError, match=r"ended without an answer|be written to"):
        steps.send(frozenset())


def exchange(supervisor: Supervisor, out: bytearray, err: bytearray, *, has_input: bool = False) -> Exchange:
    outputs = {Stream.STDOUT: out.extend, Stream.STDERR: err.extend}
    return Exchange(supervisor.connection, outputs, has_input=has_input)


def test_streams_go_both_ways(supervisor: Supervisor) -> None:
    out, err = bytearray(), bytearray()
    with exchange(supervisor, out, err, has_input=True) as made:
        assert made.streams == tuple(Stream)
        run(made.begin(Exec(("cat",), streams=made.streams)))
        asked, (stdin, stdout, stderr) = supervisor.take()
        assert isinstance(asked, Exec)
        made.feed(b"typed")
        made.end_input()
        assert os.read(stdin, 100) == b"typed"
        assert os.read(stdin, 100) == b""
        os.write(stdout, b"out")
        os.write(stderr, b"err")
        while len(out) + len(err) < 6:
            assert run(made.turn())
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        supervisor.say(Exited(STATUS))
        while not made.is_over:
            run(made.turn())
        assert (made.status, bytes(out), bytes(err)) == (STATUS, b"out", b"err")


def test_what_was_said_before_the_end_is_handed_out(supervisor: Supervisor) -> None:
    """The answer is there, and pipes are as full as they can be: none of it is lost."""
    out, err = bytearray(), bytearray()
    with exchange(supervisor, out, err) as made:
        run(made.begin(Exec(("x",), streams=made.streams)))
        _, (stdout, stderr) = supervisor.take()
        os.set_blocking(stdout, False)
        with pytest.raises(BlockingIOError):
            for _ in repeat(None):
                os.write(stdout, b"x" * 4096)
        os.write(stderr, b"the last word")
        for fd in (stdout, stderr):
            os.close(fd)
        supervisor.say(Exited(STATUS))
        while not made.is_over:
            run(made.turn())
    assert len(out) >= 65536
    assert bytes(err) == b"the last word"


def test_a_command_that_reads_nothing_holds_nothing_up(supervisor: Supervisor) -> None:
    out, err = bytearray(), bytearray()
    with exchange(supervisor, out, err, has_input=True) as made:
        run(made.begin(Exec(("x",), streams=made.streams)))
        _, (stdin, stdout, stderr) = supervisor.take()
        made.feed(b"x" * (1 << 20))
        os.write(stdout, b"out")
        run(made.turn(SHORT))
        run(made.turn(SHORT))
        assert bytes(out) == b"out"
        assert 0 < made.pending_input < 1 << 20
        os.close(stdin)  # it reads no more
        run(made.turn(SHORT))
        assert made.pending_input == 0
        made.feed(b"more")
        assert made.pending_input == 0
        for fd in (stdout, stderr):
            os.close(fd)


def test_a_turn_in_which_nothing_comes(supervisor: Supervisor) -> None:
    with exchange(supervisor, bytearray(), bytearray()) as made:
        assert run(made.turn(SHORT)) is False


@pytest.mark.parametrize("words", ["the machine has ended", "ended without an answer"])
def test_a_command_ends_with_its_machine(supervisor: Supervisor, words: str) -> None:
    """Though its pipes are held open by another, and though it has more to type."""
    out = bytearray()
    with exchange(supervisor, out, bytearray(), has_input=True) as made:
        steps = made.run(Exec(("x",), streams=made.streams))
        next(steps)
        _, kept = supervisor.take()
        made.feed(b"x" * (1 << 20))
        os.write(kept[1], b"before")
        if words == "the machine has ended":
            supervisor.say(GONE)
        supervisor.end.close()
        with pytest.raises(MvmnixError, match=words):
            while True:
                steps.send(frozenset({made.connection.fileno()}))
        for fd in kept:
            os.close(fd)
    assert bytes(out) == (b"before" if words == "the machine has ended" else b"")


def test_a_command_that_does_not_end_in_its_time(supervisor: Supervisor) -> None:
    with (
        exchange(supervisor, bytearray(), bytearray()) as made,
        pytest.raises(GuestTimeoutError, match="did not end in its time"),
    ):
        run(made.run(Exec(("x",), streams=made.streams), SHORT))


def test_an_answer_to_another_question(supervisor: Supervisor) -> None:
    supervisor.say(Done())
    with (
        exchange(supervisor, bytearray(), bytearray()) as made,
        pytest.raises(MvmnixError, match="answered another question"),
    ):
        run(made.run(Exec(("x",), streams=made.streams)))


def test_a_request_that_is_too_long_leaves_nothing_open(supervisor: Supervisor) -> None:
    made = exchange(supervisor, bytearray(), bytearray(), has_input=True)
    with pytest.raises(ValueError, match="allowed"):
        run(made.run(Exec(("x" * LIMIT,), streams=made.streams)))
    made.close()
    made.close()


def test_a_hundred_calls_leave_nothing_open(supervisor: Supervisor) -> None:
    with nothing_left_open():
        for _ in range(100):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                one = Supervisor(theirs, Connection(ours))
                out = bytearray()
                with exchange(one, out, bytearray(), has_input=True) as made:
                    steps = made.run(Exec(("x",), streams=made.streams))
                    next(steps)
                    _, descriptors = one.take()
                    os.write(descriptors[1], b"x")
                    for fd in descriptors:
                        os.close(fd)
                    one.say(Exited(STATUS))
                    with pytest.raises(StopIteration) as end:
                        steps.send(frozenset({one.connection.fileno()}))
                    assert (end.value.value, bytes(out)) == (STATUS, b"x")
    assert supervisor.connection.fileno() >= 0


def test_another_thread_hangs_up(supervisor: Supervisor) -> None:
    steps = calls.answer(supervisor.connection)
    next(steps)
    supervisor.connection.shut_down()
    supervisor.connection.shut_down()
    with pytest.raises(ConnectionLostError):
        steps.send(frozenset())
