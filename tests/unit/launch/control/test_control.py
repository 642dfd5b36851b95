"""Commands from other processes, in machines of both postures: what is granted, refused, bounded and cleaned up."""

import fcntl
import json
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mvmnix.api.calls import Call, call
from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats import strict
from mvmnix.launch.control.authorize import logged_call
from mvmnix.launch.control.codec import LIMIT, encode
from mvmnix.launch.control.messages import Exec, Shell, Signal, Stream
from mvmnix.machines import cleanup, control_socket, registry
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.machines.registry import MachineEntry
from mvmnix.model import Verb
from mvmnix.system.descriptors import receive_packet, send_packet
from tests.descriptors import close_all
from tests.patience import POLL, until
from tests.unit.launch.house import House, detach

OUT = (Stream.STDOUT, Stream.STDERR)


def running(here: House) -> MachineEntry:
    """A detached machine; its command runs on until somebody ends it. Servers of other tests may still be ending."""
    until(lambda: threading.active_count() == 1, threading.enumerate)
    with here.plan("linger", verbs=frozenset({Verb.EXEC})) as plan:
        machine = detach(plan, here.host, name="web")
    return registry.find_machine(here.directory("machines"), machine)


def asked(here: House, *argv: str, fds: tuple[int, ...] = (), streams: tuple[Stream, ...] = (), **more: Any) -> Call:
    return call(here.directory("machines"), "web", Exec(argv, streams=streams, **more), fds)


def heard(here: House, *argv: str, stdin: bytes | None = None, **more: Any) -> tuple[int, bytes, bytes]:
    """Run a command to its end, over pipes: exit code, standard output, standard error."""
    streams = OUT if stdin is None else tuple(Stream)
    with ExitStack() as stack:
        pipes = {stream: os.pipe() for stream in streams}
        theirs = tuple(ends[0 if stream is Stream.STDIN else 1] for stream, ends in pipes.items())
        found = {stream: stack.enter_context(os.fdopen(pipes[stream][0], "rb")) for stream in OUT}
        try:
            it = stack.enter_context(asked(here, *argv, fds=theirs, streams=streams, **more))
        finally:
            close_all(theirs)
        if stdin is not None:
            os.write(pipes[Stream.STDIN][1], stdin)
            os.close(pipes[Stream.STDIN][1])
        status = it.wait()
        return status.exit_code, found[Stream.STDOUT].read(), found[Stream.STDERR].read()


def descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def at_rest(here: House, entry: MachineEntry) -> int:
    """How many descriptors a supervisor has when nobody asks it for anything."""
    assert entry.supervisor is not None
    heard(here, "true")
    seen = [0, descriptors(entry.supervisor)]
    while seen[-2] != seen[-1]:
        time.sleep(POLL)
        seen.append(descriptors(entry.supervisor))
    return seen[-1]


def test_a_command_and_its_streams(here: House) -> None:
    running(here)
    assert heard(here, "echo", "two words") == (0, b"two words\n", b"")
    assert heard(here, "complain", "no") == (3, b"", b"no")
    assert heard(here, "cat", stdin=b"in and out") == (0, b"in and out", b"")
    assert heard(here, "nosuch") == (127, b"", b"")


def test_the_log_has_the_command_by_its_digest(here: House) -> None:
    entry = running(here)
    argv = ("echo", "a-word-that-nobody-else-says")
    heard(here, *argv)
    (record,) = [record for record in here.log() if record.kind is RecordKind.EXEC]
    assert (record.machine, record.plan) == (entry.status.machine, entry.status.plan)
    assert record.digests == {"argv": Digest.of(strict.canonical(list(argv)))}
    kept = [path for path in here.path.rglob("*") if path.is_file() and b"nobody-else-says" in path.read_bytes()]
    assert kept == []


def test_the_log_has_what_is_not_the_plan_s_of_a_command() -> None:
    """Who ran it where, with which variables: an auditor who has a suspicion can compare it."""
    plain = {"argv": Digest.of(b'["true"]')}
    given = plain | {"environment": Digest.of(b'{"A":"1"}'), "directory": Digest.of(b'["/x"]')}
    assert logged_call(Exec(("true",))) == (RecordKind.EXEC, plain)
    asked = Exec(("true",), {"A": "1"}, "/x", user="7")
    assert logged_call(asked) == (RecordKind.EXEC, given | {"user": Digest.of(b'["7"]')})
    assert logged_call(Shell(("true",), 24, 80, "xterm", {"A": "1"}, "/x")) == (RecordKind.SHELL, given)


def test_nothing_at_all(here: House) -> None:
    running(here)
    with asked(here, "echo", "to nobody") as it:
        assert it.wait() == ExitStatus(End.EXITED, Step.NONE, 0)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_PATH])
def test_a_file_is_not_taken(here: House, tmp_path: Path, flags: int) -> None:
    """Nor is a pipe that is open for something else: the file system behind it could hold up the supervisor."""
    running(here)
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", flags)
    with asked(here, "true", fds=(fd,), streams=(Stream.STDOUT,)) as it, pytest.raises(UsageError, match="pipe"):
        it.wait()
    os.close(fd)
    reading, writing = os.pipe()
    with asked(here, "true", fds=(reading,), streams=(Stream.STDOUT,)) as it, pytest.raises(UsageError, match="pipe"):
        it.wait()
    close_all((reading, writing))


def test_a_terminal_is_not_taken(here: House) -> None:
    """It could hold up the supervisor: the caller's process stands between."""
    running(here)
    master, terminal = os.openpty()
    with asked(here, "true", fds=(terminal,), streams=(Stream.STDOUT,)) as it, pytest.raises(UsageError, match="pipe"):
        it.wait()
    close_all((master, terminal))


def test_a_reader_that_does_not_read_holds_up_nobody_else(here: House) -> None:
    running(here)
    full, pipe = os.pipe()
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    with asked(here, "echo", "x" * 60_000, fds=(pipe,), streams=(Stream.STDOUT,)) as slow:
        for _ in range(3):
            assert heard(here, "echo", "meanwhile") == (0, b"meanwhile\n", b"")
        os.close(pipe)
        with os.fdopen(full, "rb") as file:
            assert len(file.read()) == 60_001
        assert slow.wait().exit_code == 0


def test_whoever_hangs_up_has_the_command_killed(here: House) -> None:
    entry = running(here)
    assert entry.supervisor is not None
    before = at_rest(here, entry)
    reading, writing = os.pipe()
    with asked(here, "linger", fds=(writing,), streams=(Stream.STDOUT,)):
        os.close(writing)
        until(lambda: here.log()[-1].kind is RecordKind.EXEC)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b""  # the supervisor has let go of it
    until(lambda: descriptors(entry.supervisor or 0) <= before)


def test_a_signal_reaches_the_command(here: House) -> None:
    running(here)
    with asked(here, "linger") as it:
        it.signal(signal.SIGUSR1)
        assert it.wait() == ExitStatus(End.SIGNALED, Step.NONE, signal.SIGUSR1)


def test_the_machines_end_is_the_commands(here: House) -> None:
    machines = here.directory("machines")
    entry = running(here)
    with asked(here, "linger") as it:
        until(lambda: here.log()[-1].kind is RecordKind.EXEC)
        registry.kill(machines, "web")
        with pytest.raises(MvmnixError, match="has ended"):
            it.wait()
    assert not (here.path / "machines" / entry.status.machine / control_socket.NAME).exists()
    with pytest.raises(UsageError, match="isn't running"):
        heard(here, "true")


def test_a_killed_supervisor_says_nothing_and_its_socket_goes(here: House) -> None:
    machines, host = here.directory("machines"), here.host()
    entry = running(here)
    assert entry.supervisor is not None
    with asked(here, "linger") as it:
        os.kill(entry.supervisor, signal.SIGKILL)
        with pytest.raises(MvmnixError, match=r"without an answer|can't be read from"):
            it.wait()
    until(lambda: registry.find_machine(machines, "web").state == "dead")
    cleanup.clean_up(machines, here.ledger(), host.clock, here.notices.append)
    assert not (here.path / "machines" / entry.status.machine / control_socket.NAME).exists()


BAD = [
    b"",
    b"{}",
    b"[" * 1000,
    encode(Exec(("true",), streams=OUT)),  # without its descriptors
    encode(Exec(("true",))).replace(b'"true"', b'""'),
    encode(Signal(9)),
    encode(Exec(("x",), environment={"": "x"})),
    encode(Exec(("true",), directory="relative")),
    encode(Exec(("true",), environment={"A": "x" * 70_000})),
    # its complaint quotes it, and takes three times as much
    encode(Exec(("true",))).replace(
        b'"argv"', json.dumps("\U0001f512" * 20_000, ensure_ascii=False).encode() + b':1,"argv"'
    ),
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_a_caller_who_talks_nonsense(here: House, data: bytes) -> None:
    entry = running(here)
    assert entry.supervisor is not None
    before = at_rest(here, entry)
    with here.directory("machines").existing(entry.status.machine) as directory:
        for fds in ((), (0,)):
            with control_socket.connect(directory, entry.supervisor) as connection:
                send_packet(connection, data, fds)
                answer = receive_packet(connection, LIMIT, 3).data
                assert answer == b"" or b"failure" in answer
    until(lambda: descriptors(entry.supervisor or 0) <= before)
    assert heard(here, "echo", "still there") == (0, b"still there\n", b"")


@pytest.mark.root("only root can become another user")
def test_the_socket_is_private_and_another_user_is_refused(here: House) -> None:
    entry = running(here)
    where = here.path / "machines" / entry.status.machine
    assert (where.stat().st_mode & 0o777, (where / control_socket.NAME).stat().st_mode & 0o777) == (0o700, 0o600)
    (where / control_socket.NAME).chmod(0o666)  # as if somebody had opened all doors
    fd = os.open(where, os.O_PATH)
    where.chmod(0o711)
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.connect(f"/proc/self/fd/{fd}/{control_socket.NAME}")
                connection.send(encode(Exec(("true",))))
                os._exit(0 if b"caller-refused" in connection.recv(4096) else 1)
        except (ConnectionResetError, BrokenPipeError):
            os._exit(0)
        except BaseException:  # noqa: BLE001
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    where.chmod(0o700)
    os.close(fd)
    assert [record.kind for record in here.log()] == [RecordKind.START]


def test_an_impostor_behind_the_socket_is_found(here: House) -> None:
    entry = running(here)
    assert entry.supervisor is not None
    with (
        here.directory("machines").existing(entry.status.machine) as directory,
        control_socket.listen(directory),
        pytest.raises(UsageError, match="does not accept control connections"),
    ):
        control_socket.connect(directory, entry.supervisor)


def test_many_at_once(here: House) -> None:
    entry = running(here)
    assert entry.supervisor is not None
    before = at_rest(here, entry)
    results: list[tuple[int, bytes, bytes]] = []
    threads = [
        threading.Thread(target=lambda n=number: results.append(heard(here, "echo", str(n)))) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted((0, f"{number}\n".encode(), b"") for number in range(20))
    until(lambda: descriptors(entry.supervisor or 0) <= before)
