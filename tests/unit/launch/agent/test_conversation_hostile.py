"""The host's end of the channel against guests that break its protocol, flood it, or fall silent."""

import os
from collections.abc import Iterator

import pytest

from mvmnix.launch.agent import transport
from mvmnix.launch.agent.encoding import ChannelClosedError, ChannelProtocolError, ChannelTimeoutError, GuestFailedError
from mvmnix.launch.agent.endpoints import PipeSink
from mvmnix.launch.agent.frames import (
    INITIAL_WINDOW,
    OUTPUT_WINDOW,
    PROTOCOL_VERSION,
    Bye,
    Failed,
    Frame,
    FrameKind,
    Hello,
    Pong,
    Ready,
)
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.launch.agent.stream_frames import Data, Eof, Exit, Open, Reset, Started, Stderr, Stdout, Window
from mvmnix.machines.exit_status import End, Step
from tests.patience import POLL, QUIET
from tests.unit.launch.channel_house import (
    IDLE,
    Hostile,
    config,
    nothing,
    workload,
)


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    guest = Hostile()
    yield guest
    guest.close()


EXITED = Exit(3, End.EXITED, Step.NONE, 0)
#: What a guest says when one command (stream 3) was asked for, and why it is cut off.
WRONG_ORDER: dict[str, list[Frame | bytes]] = {
    "a HELLO frame out of order": [Hello(PROTOCOL_VERSION, "again", "")],
    "a READY frame out of order": [Ready()],
    "a FAILED frame out of order": [Failed(b"late")],
    "a BYE frame out of order": [Bye()],
    "a PONG frame out of order": [Pong(99)],
    "STDOUT frame out of order": [Stdout(3, b"x")],
    "STARTED frame out of order": [Started(3), Started(3)],
    "ended without having started": [EXITED],
    "EXIT frame for stream 3, which is not open": [Started(3), EXITED, EXITED],
    "STDOUT frame for stream 3, which is not open": [Started(3), EXITED, Stdout(3, b"x")],
    "STARTED frame for stream 1, which is not open": [Started(1)],
    "STDERR frame for stream 5, which is not open": [Stderr(5, b"x")],
    "DATA frame for stream 2, which is not open": [Data(2, b"x")],
    "WINDOW frame for stream 2, which is not open": [Window(2, FrameKind.DATA, 1)],
    "RESET frame for stream 4, which is not open": [Open(2, 80), Reset(4)],
    "a window of more than": [Window(3, FrameKind.STDIN, 1)],
    "on stream 2": [Open(2, 80), Window(2, FrameKind.DATA, 1)],
    "a WINDOW frame out of order": [Window(3, FrameKind.STDOUT, 1)],
    "connection 2 after 2": [Open(2, 80), Open(2, 80)],
    "connection 4 after 0": [Open(4, 80)],
    "port 22, which was not granted": [Open(2, 22)],
    "DATA frame out of order": [Open(2, 80), Eof(2), Data(2, b"x")],
    "EOF frame out of order": [Open(2, 80), Eof(2), Eof(2)],
    "more than 64 connections": [Open(2 * number, 80) for number in range(1, 66)],
}


@pytest.mark.parametrize(("why", "frames"), WRONG_ORDER.items(), ids=WRONG_ORDER.keys())
def test_a_guest_out_of_order_is_cut_off(hostile: Hostile, why: str, frames: list[Frame | bytes]) -> None:
    command = hostile.until_command()
    hostile.says(*frames)
    error = hostile.listen()
    assert isinstance(error, ChannelProtocolError)
    assert why in str(error)
    assert hostile.channel.failure is error
    assert all(handler.was_reset or handler.ended for handler in hostile.service.made)
    if command.status is None:
        with pytest.raises(ChannelProtocolError):
            hostile.channel.wait(command)


@pytest.mark.parametrize(
    "frame", [Started(3), Open(2, 80), Window(3, FrameKind.STDIN, 1), Exit(1, End.TIMED_OUT, Step.NONE, 0)]
)
def test_nothing_is_heard_before_ready(hostile: Hostile, frame: Frame) -> None:
    hostile.says(Hello(PROTOCOL_VERSION, "", ""), frame)
    assert "before READY" in str(hostile.listen())


@pytest.mark.parametrize("frame", [Ready(), Failed(b""), Pong(1), Bye()])
def test_a_guest_begins_with_hello(hostile: Hostile, frame: Frame) -> None:
    hostile.says(frame)
    with pytest.raises(ChannelProtocolError, match="out of order"):
        hostile.channel.wait_hello(idle=IDLE)


def test_ready_without_a_configuration_is_refused(hostile: Hostile) -> None:
    hostile.says(Hello(PROTOCOL_VERSION, "", ""), Ready())
    assert "READY frame out of order" in str(hostile.listen())


@pytest.mark.parametrize("version", [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])
def test_another_version_is_refused(hostile: Hostile, version: int) -> None:
    hostile.says(Hello(version, "", ""))
    with pytest.raises(ChannelProtocolError, match=f"version {version}, where {PROTOCOL_VERSION} is spoken"):
        hostile.channel.wait_hello(idle=IDLE)


def test_a_failure_is_reported_escaped(hostile: Hostile) -> None:
    hostile.says(Hello(PROTOCOL_VERSION, "", ""), Failed(b"\x1b[31mno root\n"))
    hostile.channel.wait_hello(idle=IDLE)
    with pytest.raises(GuestFailedError, match=r"\\u001b\[31mno root\\n"):
        hostile.channel.configure(config(), idle=IDLE)


def test_a_slow_sink_holds_the_guest_to_its_window(hostile: Hostile) -> None:
    hostile.until_ready()
    read, write = os.pipe()
    sink = PipeSink(hostile.loop, write)
    hostile.channel.start_exec(ExecRequest(workload("x")), stdout=sink, stderr=hostile.out)
    hostile.says(Started(3), *[Stdout(3, b"x" * MAX_PAYLOAD)] * (OUTPUT_WINDOW // MAX_PAYLOAD + 2))
    error = hostile.listen()
    assert "bytes on flow STDOUT of stream 3" in str(error)
    os.close(read)
    os.close(write)


def test_a_connection_is_held_to_its_window(hostile: Hostile) -> None:
    hostile.until_ready()
    hostile.says(Open(2, 80), *[Data(2, b"x" * MAX_PAYLOAD)] * 5)  # echoed, but never credited to our sending flow
    hostile.listen(QUIET)
    hostile.says(*[Data(2, b"x" * MAX_PAYLOAD)] * 16)
    error = hostile.listen()
    assert "bytes on flow DATA of stream 2" in str(error)
    assert hostile.service.made[0].most <= 2 * INITIAL_WINDOW


def test_late_frames_of_a_closed_connection_are_harmless(hostile: Hostile) -> None:
    hostile.until_ready()
    hostile.says(Open(2, 80), Data(2, b"x"), Eof(2))
    assert isinstance(hostile.listen(QUIET), ChannelTimeoutError)
    hostile.says(Window(2, FrameKind.DATA, 1), Reset(2))
    assert isinstance(hostile.listen(QUIET), ChannelTimeoutError)


def test_a_reset_is_answered_and_ends_the_service(hostile: Hostile) -> None:
    hostile.until_ready()
    hostile.says(Open(2, 80), Data(2, b"x"), Reset(2))
    hostile.listen(QUIET)
    assert hostile.service.made[0].was_reset
    hostile.says(Data(2, b"x"))
    assert "not open" in str(hostile.listen())


def test_a_guest_that_never_listens_is_cut_off(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_HIGH_WATER", 65536)
    hostile.until_ready()
    stream = 0
    while hostile.channel.failure is None:
        stream += 200
        hostile.says(
            *(frame for number in range(stream - 198, stream + 1, 2) for frame in (Open(number, 80), Reset(number)))
        )
        hostile.loop.turn(0)
        assert stream < 200_000
    assert "does not read replies" in str(hostile.channel.failure)


class EnoughError(Exception):
    """The caller's own limit."""


def test_an_endless_flood_ends_by_the_callers_limit(hostile: Hostile) -> None:
    command = hostile.until_command()
    hostile.says(Started(3))

    def flood() -> None:
        hostile.says(Stdout(3, b"x" * 10_000))
        hostile.loop.after(0, flood)
        if len(hostile.out) > 4 * INITIAL_WINDOW:
            raise EnoughError

    hostile.loop.after(0, flood)
    with pytest.raises(EnoughError):
        hostile.channel.wait(command)


def test_silence_is_a_timeout_and_not_the_end(hostile: Hostile) -> None:
    with pytest.raises(ChannelTimeoutError, match="no sign of life"):
        hostile.channel.wait_hello(idle=POLL)
    assert hostile.channel.failure is None
    hostile.says(Hello(PROTOCOL_VERSION, "", ""))
    assert hostile.channel.wait_hello(idle=IDLE).version == PROTOCOL_VERSION


def test_hanging_up_is_the_end(hostile: Hostile) -> None:
    command = hostile.until_command()
    hostile.says(b"\x09\x00")
    hostile.sock.close()
    with pytest.raises(ChannelClosedError, match="in the middle of a frame"):
        hostile.channel.wait(command, idle=IDLE)
    with pytest.raises(ChannelClosedError):
        hostile.channel.start_exec(ExecRequest(workload("x")), stdout=nothing, stderr=nothing)


def test_hanging_up_is_a_way_to_shut_down(hostile: Hostile) -> None:
    hostile.until_ready()
    hostile.loop.after(0, hostile.sock.close)
    hostile.channel.shutdown(grace_ms=0, idle=IDLE)


def test_nothing_is_heard_after_bye(hostile: Hostile) -> None:
    hostile.until_ready()
    hostile.loop.after(0, lambda: hostile.says(Bye(), Hello(PROTOCOL_VERSION, "", "")))
    hostile.channel.shutdown(grace_ms=0, idle=IDLE)
    assert isinstance(hostile.channel.failure, ChannelClosedError)


def test_misuse_is_refused_before_anything_is_sent(hostile: Hostile) -> None:
    with pytest.raises(ValueError, match="after its HELLO"):
        hostile.channel.configure(config(), idle=IDLE)
    hostile.says(Hello(PROTOCOL_VERSION, "", ""))
    hostile.channel.wait_hello(idle=IDLE)
    with pytest.raises(ValueError, match="no service stands behind"):
        hostile.channel.configure(config(ports=(80, 81)), idle=IDLE)
    with pytest.raises(ValueError, match="RUN needs"):
        hostile.channel.start_run(stdout=nothing, stderr=nothing)
