"""A caller that closes, or is killed, in each state of its machine; and calls, which all end with the machine."""

import os
import shutil
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mvmnix.api import launch
from mvmnix.api.context import Context
from mvmnix.cli import main
from mvmnix.errors import MvmnixError
from mvmnix.launch.control import calls
from mvmnix.launch.control.calls import Exchange
from mvmnix.launch.control.connection import Connection
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.messages import Exec, Ping, Request, Shell, Stop, Stream, Wait
from mvmnix.launch.control.start_messages import (
    Mode,
    Question,
    Reply,
    SecretsWanted,
    SharesWanted,
    Started,
    StartRequest,
    Taken,
    parse_event,
)
from mvmnix.machines import registry
from tests.descriptors import nothing_left_open
from tests.patience import until
from tests.support import forked_launcher
from tests.support.confinement import filter_calls
from tests.support.forks import fork_that
from tests.support.processes import gone, list_open
from tests.unit.cli.plans import signed
from tests.unit.cli.station import Station
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launcher.requests import REQUEST, handed
from tests.unit.launcher.talk import stream_socket

#: Bytes of a command's output, more than what lies between it and its reader.
FLOOD = 500_000


@pytest.fixture
def plan(settled: Station, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A plan that grants commands and shells; its own command runs on."""
    monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    reference = settled.flake(verbs=["exec", "shell"])
    return signed(settled, "--verb", "exec", "--verb", "shell", reference=reference, command=("linger",)).read_bytes()


def alive(context: Context) -> list[str]:
    """List the machines that live."""
    return [entry.status.machine for entry in registry.list_entries(context.machines) if entry.alive]


@contextmanager
def machine(context: Context, plan: bytes, mode: Mode = Mode.HELD) -> Iterator[launch.RunningMachine]:
    """Yield a machine that runs for this process."""
    with run(launch.start_machine(context, plan, launch.StartOptions(mode=mode))) as made:
        yield made


# callers that leave


def leave(_connection: Connection, _context: Context) -> None:
    """Leave before anything was read."""


def leave_once_taken(connection: Connection, _context: Context) -> None:
    """Leave in the gate."""
    assert isinstance(parse_event(run(connection.receive()).data), Taken)


def leave_while_it_boots(connection: Connection, context: Context) -> None:
    """Leave once there is a machine that isn't ready."""
    leave_once_taken(connection, context)
    until(lambda: alive(context))


def leave_once_it_runs(connection: Connection, context: Context) -> None:
    """Leave once the guest is ready."""
    leave_once_taken(connection, context)
    while not isinstance(parse_event(run(connection.receive()).data), Started):
        continue


@pytest.mark.parametrize("is_killed", [False, True], ids=["closes", "killed"])
@pytest.mark.parametrize(
    ("depart", "scenario"),
    [
        (leave, Scenario.BOOTS),
        (leave_once_taken, Scenario.BOOTS),
        (leave_while_it_boots, Scenario.HANGS),
        (leave_once_it_runs, Scenario.BOOTS),
    ],
    ids=["unread", "gate", "boot", "running"],
)
def test_a_caller_that_leaves_leaves_no_machine_behind(
    settled: Station,
    plan: bytes,
    depart: Callable[[Connection, Context], None],
    scenario: Scenario,
    *,
    is_killed: bool,
) -> None:
    settled.hypervisor(scenario)
    call(settled, plan, StartRequest(mode=Mode.HELD), depart, is_killed=is_killed)
    with settled.rooms() as context:
        until(lambda: not alive(context))
        starts = registry.list_entries(context.machines)
        assert all(entry.alive is False for entry in starts)


def plan_that_asks(settled: Station, tmp_path: Path, question: type) -> bytes:
    """Return a plan whose caller is asked for a share, or else for a secret."""
    (tmp_path / "shared").mkdir()
    options = ("--share", f"{tmp_path}/shared:/data") if question is SharesWanted else ("--secret", "a=env:CONFIDED")
    return signed(settled, *options, command=("linger",)).read_bytes()


@pytest.mark.parametrize("is_killed", [False, True], ids=["closes", "killed"])
@pytest.mark.parametrize("question", [SharesWanted, SecretsWanted, Question])
def test_a_caller_that_leaves_while_it_is_asked_leaves_nothing_behind(
    settled: Station, tmp_path: Path, question: type, *, is_killed: bool
) -> None:
    plan = plan_that_asks(settled, tmp_path, question)
    if question is Question:
        encrypt_key(settled)

    def leave_when_asked(connection: Connection, context: Context) -> None:
        taken = parse_event(run(connection.receive()).data)
        assert isinstance(taken, Taken)
        (tmp_path / "process").write_text(str(taken.process))
        while not isinstance(parse_event(run(connection.receive()).data), question):
            continue

    call(settled, plan, StartRequest(mode=Mode.HELD, can_ask=True), leave_when_asked, is_killed=is_killed)
    until(lambda: gone(int((tmp_path / "process").read_text())))
    with settled.rooms() as context:
        assert registry.list_entries(context.machines) == ()


def encrypt_key(settled: Station) -> None:
    """Have the host's key take a password, which callers read from this process's environment."""
    settled.monkeypatch.setenv("PASSWORD", "a long password")
    (settled.config / "config.toml").write_text('version = 1\n[keys]\npassword = "env:PASSWORD"\n')
    (settled.config / "keys/host.pem").unlink()
    assert settled.mvm("key", "create", "--password", "env:PASSWORD", "host").code == 0


@pytest.mark.parametrize("question", [SharesWanted, SecretsWanted, Question])
def test_a_caller_that_does_not_answer_holds_up_no_other(
    settled: Station, tmp_path: Path, plan: bytes, question: type
) -> None:
    encrypt_key(settled)
    asking = plan_that_asks(settled, tmp_path, question)

    kept: list[Connection] = []

    def stop_when_asked() -> None:
        with settled.rooms() as context, handed(context.roots, asking) as found:
            request = StartRequest(mode=Mode.HELD, can_ask=True)
            connection = forked_launcher.reach(context.roots, private=False)
            run(connection.send(request, [found[name] for name in request.descriptors]))
            while not isinstance(event := parse_event(run(connection.receive()).data), question):
                if isinstance(event, Question):
                    run(connection.send(Reply("a long password")))
            kept.append(connection)  # the descriptors that were handed over are closed

    with fork_that(stop_when_asked), settled.rooms() as context, machine(context, plan) as made:
        assert alive(context) == [made.id]


def call(
    settled: Station,
    plan: bytes,
    request: StartRequest,
    depart: Callable[[Connection, Context], None],
    *,
    is_killed: bool,
) -> None:
    """Have a fork ask for a machine, and close its connection after `depart`, or be killed."""

    def ask() -> None:
        with settled.rooms() as context, handed(context.roots, plan) as found:
            connection = forked_launcher.reach(context.roots, private=False)
            run(connection.send(request, [found[name] for name in request.descriptors]))
            depart(connection, context)
            if is_killed:
                os.kill(os.getpid(), signal.SIGSTOP)  # until the test kills it
            connection.close()

    child = os.fork()
    if child == 0:
        status = 1
        try:
            ask()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, os.WUNTRACED)
    if is_killed:
        assert os.WIFSTOPPED(status)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    else:
        assert status == 0


def test_a_detached_machine_stays_when_its_caller_is_killed(settled: Station, plan: bytes) -> None:
    def call() -> None:
        with settled.rooms() as context, machine(context, plan, Mode.DETACHED):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        call()
    os.waitpid(child, 0)
    with settled.rooms() as context:
        assert len(alive(context)) == 1


def test_a_held_machine_that_is_let_go_stays(settled: Station, plan: bytes) -> None:
    with settled.rooms() as context:
        with machine(context, plan) as made:
            run(made.detach())
        assert alive(context) == [made.id]


def test_a_caller_that_leaves_while_its_machine_ends(settled: Station, plan: bytes) -> None:
    with settled.rooms() as context:
        with machine(context, plan) as made:
            made.stop()
        until(lambda: not alive(context))


def supervisor_of(context: Context) -> int:
    """Return the process that supervises the only machine."""
    (entry,) = registry.list_entries(context.machines)
    assert entry.supervisor
    return entry.supervisor


def test_a_machine_whose_state_directory_was_removed_ends(settled: Station, plan: bytes) -> None:
    """What can't be recorded isn't done, and the caller hears why."""
    with settled.rooms() as context, machine(context, plan) as made:
        supervisor = supervisor_of(context)
        shutil.rmtree(settled.state)
        with run(made.connect()) as connection, pytest.raises(MvmnixError, match=r"audit log .* cannot be written"):
            run(calls.call(connection, Exec(("true",))))
        made.stop()
        with pytest.raises(MvmnixError, match="No such file or directory") as failed:
            run(made.finish())
        assert "mvm's own directories" in failed.value.hint
        until(lambda: gone(supervisor))


def test_a_machine_whose_state_directory_was_moved_goes_on(settled: Station, plan: bytes) -> None:
    with settled.rooms() as context, machine(context, plan) as made:
        supervisor = supervisor_of(context)
        settled.state.rename(settled.path / "moved")
        with settled.rooms() as other:
            assert alive(other) == [], "another directory has other machines"
        with run(made.connect()) as connection:
            assert run(calls.call(connection, Exec(("true",)))) is not None
        made.stop()
        assert run(made.finish()).machine == made.id
        until(lambda: gone(supervisor))


# calls, and the end of their machine

EXEC, SHELL = Exec(("linger",)), Shell((), 24, 80, "xterm", streams=())
CALLS: list[Request] = [EXEC, SHELL, Wait(), Stop()]


def end_by_caller(made: launch.RunningMachine, _process: int) -> None:
    """End it by the conversation of its start."""
    made.stop()


def end_by_kill(made: launch.RunningMachine, process: int) -> None:
    """Kill its supervisor."""
    del made
    os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("end", [end_by_caller, end_by_kill])
def test_every_call_ends_with_its_machine(
    settled: Station, plan: bytes, end: Callable[[launch.RunningMachine, int], None]
) -> None:
    with settled.rooms() as context, machine(context, plan) as made, ExitStack() as stack:
        (entry,) = registry.list_entries(context.machines)
        assert entry.supervisor
        waiting = []
        for request in CALLS[:3]:
            connection = stack.enter_context(run(made.connect()))
            steps = calls.call(connection, request)
            next(steps)
            waiting.append(steps)
        (reading, writing), held = os.pipe(), Exchange(run(made.connect()), {}, has_input=True)
        run(held.begin(Exec(("linger",), streams=held.streams)))
        with run(made.connect()) as last:  # those before were served before
            run(calls.call(last, Exec(("true",))))
        end(made, entry.supervisor)
        for steps in waiting:
            try:
                run(steps)
            except MvmnixError as error:
                assert "ended" in error.message
        with pytest.raises(MvmnixError, match="ended"):
            while not held.is_over:
                run(held.turn())
        held.close()
        os.close(reading)
        os.close(writing)


def test_a_caller_whose_pipe_is_full_for_ever_holds_up_its_own_command_alone(settled: Station, plan: bytes) -> None:
    with settled.rooms() as context, machine(context, plan) as made:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4096)
        with run(made.connect()) as stuck:
            run(stuck.send(Exec(("echo", "x" * 60_000), streams=(Stream.STDOUT,)), (writing,)))
            out = bytearray()
            with Exchange(run(made.connect()), {Stream.STDOUT: out.extend}, has_input=False) as other:
                run(other.run(Exec(("echo", "through"), streams=other.streams)))
            assert out == b"through\n"
        os.close(reading)
        os.close(writing)


def test_a_terminal_whose_output_is_stopped_holds_up_its_own_command_alone(settled: Station, plan: bytes) -> None:
    """As by ^S, in a command of mvm's that stands between it and the guest."""
    (settled.path / "flood").write_bytes(b"x" * FLOOD)
    ours, theirs = os.openpty()
    termios.tcflow(theirs, termios.TCOOFF)
    with settled.rooms() as context, machine(context, plan) as made:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(settled.path / "flood", os.O_RDONLY), 0)
            os.dup2(theirs, 1)
            settled.monkeypatch.setattr(sys, "argv", ["mvm", "exec", "-i", made.id, "--", "cat"])
            try:
                main.run()
            except SystemExit as end:
                os._exit(int(end.code or 0))
            finally:
                os._exit(1)
        for _ in range(3):
            with run(made.connect()) as connection:
                assert run(calls.call(connection, Exec(("true",)))) is not None
        assert not gone(child)
        termios.tcflow(theirs, termios.TCOON)
        seen = 0
        while seen < FLOOD:
            seen += os.read(ours, 65536).count(b"x")
        assert os.waitpid(child, 0)[1] == 0
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    "make",
    [
        stream_socket,
        lambda: os.open("/dev/null", os.O_RDWR),
        lambda: os.open("/", os.O_PATH),
        lambda: os.pipe()[0],
    ],
    ids=["socket", "device", "path", "wrong end"],
)
def test_a_stream_of_a_call_is_a_pipe(settled: Station, plan: bytes, make: Callable[[], int]) -> None:
    fd = make()
    with settled.rooms() as context, machine(context, plan) as made, run(made.connect()) as connection:
        with pytest.raises(MvmnixError, match="stdout is not a pipe that is open for it"):
            run(calls.call(connection, Exec(("true",), streams=(Stream.STDOUT,)), (fd,)))
        os.close(fd)
        with run(made.connect()) as other:
            assert run(calls.call(other, Exec(("true",)))) is not None


def test_a_hundred_calls_leave_nothing_open(settled: Station, plan: bytes) -> None:
    with settled.rooms() as context, machine(context, plan) as made:
        (entry,) = registry.list_entries(context.machines)
        supervisor = entry.supervisor
        assert supervisor
        counts: list[int] = []
        with nothing_left_open():
            for _ in range(100):
                out = bytearray()
                with Exchange(run(made.connect()), {Stream.STDOUT: out.extend}, has_input=True) as exchange:
                    steps = exchange.begin(Exec(("echo", "x"), streams=exchange.streams))
                    run(steps)
                    exchange.end_input()
                    while not exchange.is_over:
                        run(exchange.turn())
                assert out == b"x\n"
                counts.append(len(list_open(supervisor)))
        until(lambda: len(list_open(supervisor)) <= counts[0])


def test_a_ping_is_answered(settled: Station, plan: bytes) -> None:
    with settled.rooms() as context, machine(context, plan) as made, run(made.connect()) as connection:
        assert run(calls.call(connection, Ping())) is None


def test_a_request_that_nobody_reads_is_nobodys(settled: Station) -> None:
    """A fork that is confined meanwhile can't send in its parent's place."""
    with settled.rooms() as context, handed(context.roots) as found:
        connection = forked_launcher.reach(context.roots, private=False)

        def send() -> None:
            filter_calls()
            run(connection.send(REQUEST, [found[name] for name in REQUEST.descriptors]))

        with connection, fork_that(send):
            event = parse_event(run(connection.receive()).data)
        assert "caller-refused" in str(event.to_error() if hasattr(event, "to_error") else event)
    assert not list(Path(settled.state / "machines").glob("*/plan*"))
