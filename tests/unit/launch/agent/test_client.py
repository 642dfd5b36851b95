"""The host's end of the channel against a guest that works: commands, sinks, sources and services."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import override

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.agent.encoding import ChannelClosedError
from mvmnix.launch.agent.endpoints import PipeSink
from mvmnix.launch.agent.frames import INITIAL_WINDOW
from mvmnix.launch.agent.port_forward import StreamRefusedError
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.model import Verb
from tests.patience import POLL
from tests.unit.launch.channel_house import (
    IDLE,
    Collect,
    Echo,
    Services,
    config,
    nothing,
    talk,
    workload,
)


def test_the_planned_command_runs_once() -> None:
    with talk() as (channel, guest, _):
        out = Collect()
        assert channel.wait(channel.start_run(stdout=out, stderr=nothing), idle=IDLE).exit_code == 0
        assert out.data == b"planned\n"
        assert guest.config == config()
        with pytest.raises(ValueError, match="once"):
            channel.start_run(stdout=out, stderr=out)


def test_commands_come_and_go() -> None:
    with talk() as (channel, _, _):
        err = Collect()
        assert channel.exec(ExecRequest(workload("true")), stdout=nothing, stderr=nothing, idle=IDLE).exit_code == 0
        status = channel.exec(ExecRequest(workload("complain", "ä\n")), stdout=nothing, stderr=err, idle=IDLE)
        assert (status.exit_code, err.data) == (3, "ä\n".encode())
        missing = channel.exec(ExecRequest(workload("missing")), stdout=nothing, stderr=nothing, idle=IDLE)
        assert missing.exit_code == 127
        assert str(missing) == "could not be started: executing the program: No such file or directory"
        assert channel.ping(idle=IDLE) >= 0
        assert channel.bytes_received > 0


def write_all(fd: int, data: bytes) -> None:
    with os.fdopen(fd, "wb") as file:
        file.write(data)


@pytest.mark.parametrize("kind", ["bytes", "chunks", "pipe", "file"])
def test_input_and_output_of_any_size_go_through(kind: str, tmp_path: Path) -> None:
    data = os.urandom(3 * INITIAL_WINDOW + 17)
    (tmp_path / "data").write_bytes(data)
    with talk() as (channel, _, _), (tmp_path / "data").open("rb") as file:
        out, (read, write) = Collect(), os.pipe()
        writer = threading.Thread(target=write_all, args=(write, data if kind == "pipe" else b""))
        writer.start()
        sources = {"bytes": data, "chunks": iter([data[:5], b"", data[5:]]), "pipe": read, "file": file.fileno()}
        status = channel.exec(ExecRequest(workload("cat")), stdout=out, stderr=nothing, stdin=sources[kind], idle=IDLE)  # type: ignore[arg-type]
        writer.join()
        os.close(read)
        assert status.exit_code == 0
        assert out.data == data


def test_a_slow_reader_delays_nobody_else() -> None:
    with talk() as (channel, _, loop):
        read, write = os.pipe()
        data = os.urandom(2 * INITIAL_WINDOW)
        slow = channel.start_exec(
            ExecRequest(workload("cat")), stdout=PipeSink(loop, write), stderr=nothing, stdin=data
        )
        quick = channel.exec(ExecRequest(workload("echo", "quick")), stdout=Collect(), stderr=nothing, idle=IDLE)
        assert quick.exit_code == 0
        assert slow.status is None
        got = bytearray()
        loop.watch(read, read=lambda: got.extend(os.read(read, 65536)))
        assert channel.wait(slow, idle=IDLE).exit_code == 0
        while len(got) < len(data):
            loop.turn(IDLE)
        assert got == data
        loop.forget(read)
        os.close(read)
        os.close(write)


def test_output_goes_to_a_file(tmp_path: Path) -> None:
    with talk() as (channel, _, loop), (tmp_path / "out").open("wb") as file:
        data = os.urandom(INITIAL_WINDOW * 2)
        sink = PipeSink(loop, file.fileno())
        channel.exec(ExecRequest(workload("cat")), stdout=sink, stderr=nothing, stdin=data, idle=IDLE)
        assert (tmp_path / "out").read_bytes() == data


def test_a_reader_that_left_is_reported_as_sigpipe() -> None:
    with talk() as (channel, guest, loop):
        read, write = os.pipe()
        os.close(read)
        sink = PipeSink(loop, write)
        command = channel.start_exec(ExecRequest(workload("echo", "x")), stdout=sink, stderr=nothing)
        channel.wait(command, idle=IDLE)
        second = channel.start_exec(ExecRequest(workload("cat")), stdout=nothing, stderr=nothing, stdin=b"")
        channel.wait(second, idle=IDLE)
        assert sink.pending == 0
        assert guest.signals in ([], [13])  # the command may have ended before
        os.close(write)


def test_a_signal_ends_a_command() -> None:
    with talk() as (channel, guest, _):
        read, write = os.pipe()
        command = channel.start_exec(ExecRequest(workload("cat")), stdout=nothing, stderr=nothing, stdin=read)
        command.signal(15)
        status = channel.wait(command, idle=IDLE)
        assert (status, status.exit_code, str(status)) == (
            ExitStatus(End.SIGNALED, Step.NONE, 15),
            143,
            "was ended by SIGTERM",
        )
        assert guest.signals == [15]
        command.signal(9)  # too late: harmless
        with pytest.raises(ValueError, match="no such signal"):
            command.signal(0)
        os.close(read)
        os.close(write)


def test_a_service_answers_several_connections() -> None:
    services = Services()
    with talk(services) as (channel, guest, loop):
        data = os.urandom(3 * INITIAL_WINDOW)
        peers = [guest.connect(80, data) for _ in range(5)]
        while not all(peer.done.is_set() for peer in peers):
            loop.turn(POLL)
        channel.ping(idle=IDLE)
        assert [bytes(peer.received) == data for peer in peers] == [True] * 5
        assert max(handler.most for handler in services.made) <= INITIAL_WINDOW
        assert not any(handler.was_reset for handler in services.made)


class Refuses(Echo):
    @override
    def data(self, data: bytes) -> None:
        raise StreamRefusedError("not like this")


def test_a_service_breaks_off_one_connection_only() -> None:
    services = Services(Refuses)
    with talk(services) as (channel, guest, loop):
        peer = guest.connect(80, b"x" * INITIAL_WINDOW * 2)
        while not peer.done.is_set():
            loop.turn(POLL)
        assert peer.reset
        assert services.made[0].was_reset
        assert channel.ping(idle=IDLE) >= 0


class Late(Echo):
    """Has nothing to say until somebody wakes it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self.wake = wake
        self.answer: bytes | None = b""

    @override
    def pull(self, limit: int) -> bytes | None:
        answer, self.answer = self.answer, b"" if self.answer == b"" else None
        return answer


def test_a_service_may_answer_later() -> None:
    made: list[Late] = []

    def make(wake: Callable[[], None]) -> Late:
        made.append(Late(wake))
        return made[-1]

    with talk(Services(make)) as (_, guest, loop):
        peer = guest.connect(80, b"question")

        def answer() -> None:
            made[0].answer = b"answer"
            made[0].wake()

        while not made:  # the guest is a thread, and may be slow
            loop.turn(POLL)
        loop.after(POLL, answer)
        while not peer.done.is_set():
            loop.turn(POLL)
        assert peer.received == b"answer"


def test_shutdown_ends_the_conversation() -> None:
    with talk() as (channel, _, _):
        channel.shutdown(grace_ms=10, idle=IDLE)
        channel.shutdown(grace_ms=10, idle=IDLE)
        with pytest.raises(ChannelClosedError):
            channel.start_exec(ExecRequest(workload("true")), stdout=nothing, stderr=nothing)


def test_the_verb_exec_must_be_granted() -> None:
    with talk(verbs=frozenset({Verb.STREAM})) as (channel, _, _):
        with pytest.raises(RefusedError) as caught:
            channel.start_exec(ExecRequest(workload("true")), stdout=nothing, stderr=nothing)
        assert caught.value.codes == (ReasonCode.VERB_NOT_GRANTED,)


def test_other_descriptors_are_served_while_waiting() -> None:
    with talk() as (channel, _, loop):
        read, write = os.pipe()

        class AskedToStopError(Exception):
            pass

        def stop() -> None:
            raise AskedToStopError

        loop.watch(read, read=stop)
        os.write(write, b"x")
        never, _end = os.pipe()
        with pytest.raises(AskedToStopError):
            channel.exec(ExecRequest(workload("cat")), stdout=nothing, stderr=nothing, stdin=never)
        loop.forget(read)
        for fd in (read, write, never, _end):
            os.close(fd)
