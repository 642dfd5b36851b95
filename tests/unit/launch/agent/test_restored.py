"""The host's end of a channel whose guest was restored while its commands stood frozen."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.encoding import ChannelTimeoutError
from mvmnix.launch.agent.endpoints import PipeSink
from mvmnix.launch.agent.frames import (
    INITIAL_WINDOW,
    OUTPUT_WINDOW,
    PROTOCOL_VERSION,
    Bye,
    Frame,
    FrameKind,
    Hello,
)
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.requests import ExecRequest, GuestConfig
from mvmnix.launch.agent.stream_frames import (
    Open,
    Stdout,
    Window,
)
from mvmnix.system.loop import Loop
from tests.patience import POLL, until
from tests.unit.launch.channel_house import IDLE, Collect, Services, config, nothing, workload
from tests.unit.launch.fake_guest import AGENT, FakeGuest
from tests.unit.launch.freezing_house import (
    ENDED,
    ENTROPY,
    OFF,
    ON,
    RESTORED,
    STANDING,
    Guest,
    freeze,
    frozen,
    thaw,
)


@pytest.fixture
def restored() -> Iterator[Guest]:
    """A guest that was restored."""
    made = Guest(config())
    yield made
    made.close()


def test_a_restored_guest_goes_on_with_its_command(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    loop, out = Loop(), Collect()
    with FakeGuest(theirs, root=tmp_path, restored=config()) as guest:
        hello = Hello(PROTOCOL_VERSION, AGENT, "0")
        channel = Channel(ours, loop, services={80: Services()}, hello=hello, restored=config())
        answers: list[str] = []
        channel.start_thaw(RESTORED, lambda: answers.append("on"))
        until(lambda: answers, rest=lambda: loop.turn(POLL))
        assert (channel.run_goes_on, guest.thaws) == (True, [RESTORED])
        channel.adopt_run(out, nothing).signal(15)
        status = channel.exec(ExecRequest(workload("echo", "new")), stdout=out, stderr=nothing, idle=IDLE)
        assert (status.exit_code, out.data) == (0, b"new\n")
        channel.close()
    loop.close()


def test_shutdown_reaches_one_that_was_restored(restored: Guest) -> None:
    restored.loop.after(0, lambda: restored.says(Bye()))
    restored.channel.shutdown(grace_ms=9, idle=IDLE)
    assert restored.channel.farewell


@pytest.mark.parametrize("frame", STANDING, ids=lambda frame: type(frame).__name__)
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked to go on", "not yet"])
def test_one_that_was_restored_says_thawed_first(restored: Guest, frame: Frame, *, is_asked: bool) -> None:
    if is_asked:
        thaw(restored, RESTORED)
    restored.says(frame)
    assert "order" in str(restored.fail()) or "between FROZEN and THAWED" in str(restored.fail())


def test_one_that_goes_on_unasked(restored: Guest) -> None:
    restored.says(OFF)
    assert "out of order" in str(restored.fail())


def test_one_that_has_a_command_that_no_plan_had() -> None:
    plain = config()
    guest = Guest(GuestConfig(plain.hostname, 1, ENTROPY, 0, plain.owner, (), plain.verbs, (), None))
    thaw(guest, RESTORED)
    guest.says(ON)
    assert "says of the plan's command: True" in str(guest.fail())
    guest.close()


def test_what_it_says_before_it_is_taken_over_is_kept(restored: Guest) -> None:
    channel, out, err = restored.channel, Collect(), Collect()
    thaw(restored, RESTORED)
    restored.says(ON, *[Stdout(1, b"x" * MAX_PAYLOAD)] * (OUTPUT_WINDOW // MAX_PAYLOAD))
    assert restored.hears() == [RESTORED], "and isn't credited"
    command = channel.adopt_run(out, err)
    assert len(out) == OUTPUT_WINDOW
    assert restored.hears() == [Window(1, FrameKind.STDOUT, OUTPUT_WINDOW)]
    restored.says(Stdout(1, b"end"), ENDED)
    assert channel.wait(command).exit_code == 0
    assert out.data[-3:] == b"end"
    with pytest.raises(ValueError, match="taken over already"):
        channel.adopt_run(out, err)


def test_one_that_had_ended_when_it_was_taken_over(restored: Guest) -> None:
    out, over = Collect(), list[int]()
    thaw(restored, RESTORED)
    restored.says(ON, Stdout(1, b"last"), ENDED)
    command = restored.channel.adopt_run(out, nothing)
    command.when_over(lambda: over.append(1))
    assert (out.data, over, restored.channel.wait(command).exit_code) == (b"last", [1], 0)


def test_its_output_goes_to_a_pipe(restored: Guest) -> None:
    read, write = os.pipe()
    thaw(restored, RESTORED)
    restored.says(ON, Stdout(1, b"early "))
    command = restored.channel.adopt_run(PipeSink(restored.loop, write), nothing)
    restored.says(Stdout(1, b"late"), ENDED)
    assert restored.channel.wait(command).exit_code == 0
    assert os.read(read, 100) == b"early late"
    os.close(read)
    os.close(write)


def test_it_says_no_more_than_a_window_before_that(restored: Guest) -> None:
    thaw(restored, RESTORED)
    restored.says(ON, *[Stdout(1, b"x" * MAX_PAYLOAD)] * (OUTPUT_WINDOW // MAX_PAYLOAD))
    restored.says(Stdout(1, b"x"))
    assert "bytes on flow STDOUT of stream 1" in str(restored.fail())


def test_it_has_no_standard_input(restored: Guest) -> None:
    thaw(restored, RESTORED)
    restored.says(ON)
    restored.channel.adopt_run(nothing, nothing)
    assert restored.hears() == [RESTORED], "not even an end of it"
    restored.says(Window(1, FrameKind.STDIN, INITIAL_WINDOW))
    assert "a window of more than" in str(restored.fail())


def test_a_restored_guest_is_as_one_that_is_ready(restored: Guest) -> None:
    thaw(restored, RESTORED)
    restored.says(OFF, Open(2, 80))
    restored.channel.start_exec(ExecRequest(workload("x")), stdout=nothing, stderr=nothing)
    assert [(frame.KIND, frame.stream) for frame in restored.hears()][1] == (FrameKind.EXEC, 3)
    frozen(restored)
    assert thaw(restored) == []
    restored.says(OFF)
    assert restored.channel.failure is None
    assert len(restored.services.made) == 1


def test_what_a_restored_guest_is_not_asked(restored: Guest) -> None:
    channel = restored.channel
    with pytest.raises(ValueError, match="between READY and SHUTDOWN"):
        channel.start_exec(ExecRequest(workload("x")), stdout=nothing, stderr=nothing)
    with pytest.raises(ValueError, match="once"):
        channel.start_run(stdout=nothing, stderr=nothing)
    with pytest.raises(ValueError, match="configured once"):
        channel.configure(config(), idle=IDLE)
    with pytest.raises(ValueError, match="between READY and SHUTDOWN"):
        freeze(restored)
    with pytest.raises(ValueError, match="renewed as restored once"):
        thaw(restored)
    with pytest.raises(ValueError, match="told already"):
        channel.serve({}, None)
    with pytest.raises(ChannelTimeoutError):
        channel.ping(idle=POLL)
    channel.tell_time(5)
    assert restored.hears() == []


@pytest.mark.parametrize(
    ("agent", "ports", "why"),
    [("0.2.9", (80,), "can't freeze commands"), (AGENT, (80, 81), "no service stands behind the ports")],
)
def test_what_no_restored_guest_is(agent: str, ports: tuple[int, ...], why: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, closing(Loop()) as loop, pytest.raises(ValueError, match=why):
        Channel(
            ours,
            loop,
            services={80: Services()},
            hello=Hello(PROTOCOL_VERSION, agent, "0"),
            restored=config(ports=ports),
        )
