"""The host's end of a channel whose guest freezes its commands, and thaws them again."""

from collections.abc import Iterator

import pytest

from mvmnix.launch.agent import transport
from mvmnix.launch.agent.encoding import ChannelClosedError, GuestFailedError
from mvmnix.launch.agent.frames import (
    PROTOCOL_VERSION,
    Bye,
    Failed,
    Frame,
    FrameKind,
    Freeze,
    Frozen,
    Hello,
    NotFrozen,
    Ping,
    Pong,
    Ready,
    Shutdown,
    Time,
)
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.launch.agent.stream_frames import (
    Eof,
    Exec,
    Exit,
    Open,
    Reset,
    Signal,
    Started,
    Stdin,
    Stdout,
    Window,
)
from mvmnix.launch.agent.transport import encode
from mvmnix.machines.exit_status import End, Step
from tests.patience import POLL, SHORT, until
from tests.unit.launch.channel_house import IDLE, Collect, nothing, talk, workload
from tests.unit.launch.fake_guest import AGENT
from tests.unit.launch.freezing_house import AGAIN, OFF, ON, RESTORED, STANDING, Guest, freeze, frozen, thaw


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A guest that is ready."""
    made = Guest()
    yield made
    made.close()


def test_a_guest_freezes_and_goes_on() -> None:
    with talk() as (channel, guest, loop):
        answers: list[object] = []
        channel.start_freeze(1000, answers.append)
        until(lambda: answers, rest=lambda: loop.turn(POLL))
        assert (answers, guest.is_frozen) == ([None], True)
        command = channel.start_exec(ExecRequest(workload("cat")), stdout=nothing, stderr=nothing, stdin=b"")
        channel.start_thaw(AGAIN, lambda: answers.append("on"))
        assert channel.wait(command, idle=IDLE).exit_code == 0
        assert (answers, guest.thaws) == ([None, "on"], [AGAIN])
        channel.ping(idle=IDLE)


def test_a_guest_that_does_not_freeze_goes_on() -> None:
    with talk() as (channel, guest, loop):
        guest.stays_awake = b"no \x1b[2J group"
        answers: list[str | None] = []
        for count in (1, 2):
            channel.start_freeze(0, answers.append)
            until(lambda count=count: len(answers) == count, rest=lambda: loop.turn(POLL))  # type: ignore[misc]
        assert answers == [r"no \u001b[2J group"] * 2
        assert channel.exec(ExecRequest(workload("true")), stdout=nothing, stderr=nothing, idle=IDLE).exit_code == 0


def test_nothing_is_sent_until_it_goes_on(guest: Guest) -> None:
    channel, said = guest.channel, Collect()
    command = channel.start_exec(ExecRequest(workload("x")), stdout=said, stderr=said, stdin=iter([b"in"]))
    first = guest.hears()
    assert [frame.KIND for frame in first] == [FrameKind.EXEC, FrameKind.STDIN, FrameKind.STDIN]
    freeze(guest)
    channel.tell_time(5)
    pongs: list[int] = []
    channel.start_ping(lambda: pongs.append(1))
    command.signal(10)
    channel.start_exec(ExecRequest(workload("y")), stdout=said, stderr=said, stdin=b"late")
    assert guest.hears() == [Freeze(1000)]
    guest.says(Started(3), *[Stdout(3, bytes(MAX_PAYLOAD))] * 4, Open(2, 80), Eof(2), Frozen())
    assert guest.hears() == []
    answers = thaw(guest)
    assert (guest.hears(), answers) == ([AGAIN], [])
    guest.says(OFF)
    assert answers == ["on"]
    later = guest.hears()
    assert later[:4] == [Time(5), Ping(1), Signal(3, 10), Exec(5, ExecRequest(workload("y")))]
    assert later[4] == Window(3, FrameKind.STDOUT, 4 * MAX_PAYLOAD)
    assert sorted(later[5:], key=lambda frame: frame.stream) == [Eof(2), Stdin(5, b"late"), Stdin(5, b"")]
    guest.says(Pong(1))
    assert pongs == [1]


def test_what_was_held_goes_on_when_it_was_not_frozen(guest: Guest) -> None:
    answers = freeze(guest)
    guest.channel.tell_time(5)
    assert guest.hears() == [Freeze(1000)]
    guest.says(NotFrozen(b"busy"))
    assert (answers, guest.hears()) == (["busy"], [Time(5)])


def test_it_freezes_as_often_as_it_is_asked(guest: Guest) -> None:
    for _ in range(3):
        frozen(guest)
        thaw(guest)
        guest.says(OFF)
        assert guest.hears() == [AGAIN]
    assert guest.channel.failure is None


def test_a_call_that_waits_for_a_command_waits_while_it_stands(guest: Guest) -> None:
    command = guest.channel.start_exec(ExecRequest(workload("x")), stdout=nothing, stderr=nothing)
    guest.says(Started(3))
    guest.hears()
    frozen(guest)

    def go_on() -> None:
        thaw(guest)
        guest.says(OFF, Exit(3, End.EXITED, Step.NONE, 4))

    guest.loop.after(2 * SHORT, go_on)
    assert guest.channel.wait(command, idle=SHORT).exit_code == 4


def test_a_guest_that_floods_while_nothing_is_sent_is_cut_off(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_HIGH_WATER", 65536)
    freeze(guest)
    for number in range(2, 20_000, 2):
        guest.sock.sendall(encode(Open(number, 80)) + encode(Reset(number)))
        guest.loop.turn(0)
        if guest.channel.failure is not None:
            break
    assert "does not read replies" in str(guest.fail())


def test_shutdown_reaches_one_that_stands(guest: Guest) -> None:
    frozen(guest)
    guest.channel.start_exec(ExecRequest(workload("late")), stdout=nothing, stderr=nothing)
    guest.loop.after(0, lambda: guest.says(Bye()))
    guest.channel.shutdown(grace_ms=9, idle=IDLE)
    assert list(guest._decoder.feed(guest.sock.recv(1 << 20))) == [Shutdown(9)], "and no command behind it"
    assert guest.channel.farewell


@pytest.mark.parametrize("answer", [Frozen(), NotFrozen(b"busy")])
def test_shutdown_and_an_answer_may_cross(guest: Guest, answer: Frame) -> None:
    freeze(guest)
    guest.loop.after(0, lambda: guest.says(answer, Bye()))
    guest.channel.shutdown(grace_ms=9, idle=IDLE)
    assert guest.channel.farewell


def test_none_is_answered_once_the_channel_has_ended(guest: Guest) -> None:
    answers = freeze(guest)
    command = guest.channel.start_exec(ExecRequest(workload("x")), stdout=nothing, stderr=nothing)
    guest.sock.close()
    guest.turn()
    assert (answers, type(guest.channel.failure)) == ([], ChannelClosedError)
    for call in (lambda: guest.channel.wait(command), lambda: freeze(guest), lambda: thaw(guest)):
        with pytest.raises(ChannelClosedError):
            call()


def test_one_that_can_not_renew_itself_has_failed(guest: Guest) -> None:
    frozen(guest)
    answers = thaw(guest)
    guest.says(Failed(b"no \x1b entropy"))
    assert answers == []
    with pytest.raises(GuestFailedError, match=r"could not renew itself, and goes on no more: no \\u001b entropy"):
        guest.channel.ping(idle=IDLE)


@pytest.mark.parametrize(
    "frame",
    [Frozen(), NotFrozen(b""), OFF, ON, Failed(b"")],
    ids=lambda frame: type(frame).__name__,
)
def test_one_that_answers_what_was_not_asked(guest: Guest, frame: Frame) -> None:
    guest.says(frame)
    assert "out of order" in str(guest.fail())


@pytest.mark.parametrize(
    "frame",
    [OFF, Failed(b""), Bye(), Ready(), Hello(PROTOCOL_VERSION, AGENT, "")],
    ids=lambda frame: type(frame).__name__,
)
def test_one_that_is_to_freeze(guest: Guest, frame: Frame) -> None:
    freeze(guest)
    guest.says(frame)
    assert "out of order" in str(guest.fail())


@pytest.mark.parametrize("frame", [*STANDING, OFF, Failed(b"")], ids=lambda frame: type(frame).__name__)
def test_one_that_stands_says_nothing(guest: Guest, frame: Frame) -> None:
    guest.channel.start_exec(ExecRequest(workload("x")), stdout=nothing, stderr=nothing)
    guest.channel.start_ping(lambda: None)
    guest.hears()
    frozen(guest)
    guest.says(frame)
    assert "order" in str(guest.fail()) or "between FROZEN and THAWED" in str(guest.fail())


def test_one_that_has_another_command_than_it_had(guest: Guest) -> None:
    frozen(guest)
    thaw(guest)
    guest.says(ON)
    assert "says of the plan's command: True" in str(guest.fail())


def test_one_that_has_lost_its_command(guest: Guest) -> None:
    guest.channel.start_run(stdout=nothing, stderr=nothing)
    guest.says(Started(1))
    guest.hears()
    frozen(guest)
    thaw(guest)
    guest.says(OFF)
    assert "says of the plan's command: False" in str(guest.fail())


def test_misuse_is_refused_before_anything_is_sent(guest: Guest) -> None:
    channel = guest.channel
    with pytest.raises(ValueError, match="once they are frozen"):
        thaw(guest)
    with pytest.raises(ValueError, match="there is no command"):
        channel.adopt_run(nothing, nothing)
    for milliseconds in (-1, 1 << 32):
        with pytest.raises(ValueError, match="not a time"):
            channel.start_freeze(milliseconds, nothing)  # type: ignore[arg-type]
    assert guest.hears() == []
    freeze(guest)
    with pytest.raises(ValueError, match="thawed before they are frozen again"):
        freeze(guest)
    with pytest.raises(ValueError, match="RUN is not asked for"):
        channel.start_run(stdout=nothing, stderr=nothing)
    guest.says(Frozen())
    with pytest.raises(ValueError, match="renewed as restored once"):
        thaw(guest, RESTORED)
    assert guest.hears() == [Freeze(1000)]


def test_an_agent_that_can_not_freeze() -> None:
    guest = Guest(agent="0.2.9")
    with pytest.raises(ValueError, match="can't freeze commands"):
        freeze(guest)
    assert guest.hears() == []
    guest.close()
