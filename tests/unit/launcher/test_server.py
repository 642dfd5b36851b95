"""The launcher's loop: a fork for each caller that says something, none for others, and no caller that stops it."""

import errno
import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.launch.control.codec import LIMIT
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.start_messages import parse_event
from mvmnix.launcher import server
from mvmnix.launcher.held_templates import HeldTemplates
from mvmnix.launcher.pools import Pools
from mvmnix.system import private_sockets
from mvmnix.system.descriptors import send_packet
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import sealed_memory
from tests.patience import SHORT, until
from tests.support.processes import gone, list_open
from tests.unit.launcher.serving import serving
from tests.unit.lingering import lingering


def test_each_caller_has_a_process_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path) as launcher:
        answers = [launcher.ask(b"%d" % number) for number in range(5)]
    numbers, processes = zip(*(answer.split() for answer in answers), strict=True)
    assert numbers == (b"0", b"1", b"2", b"3", b"4")
    assert len(set(processes)) == 5
    assert str(launcher.process).encode() not in processes


def test_a_fork_has_its_connection_standard_streams_and_templates_alone(tmp_path: Path) -> None:
    def name(connection: socket.socket) -> int:
        connection.send(" ".join(sorted(os.listdir("/proc/self/fd"), key=int)).encode())  # noqa: PTH208 - numbers
        return 0

    reading, writing = os.pipe()  # as a launcher might have any
    os.set_inheritable(reading, True)
    with serving(tmp_path, name) as launcher:
        silent = [launcher.connect() for _ in range(3)]
        found = launcher.ask().split()
        for each in silent:
            each.close()
    os.close(reading)
    os.close(writing)
    assert len(found) == 7, "0, 1, 2, the connection, where templates and pools are given, with which this is listed"


def test_a_fork_has_a_session_and_signals_of_its_own(tmp_path: Path) -> None:
    def name(connection: socket.socket) -> int:
        usual = [
            signal.getsignal(each) is signal.SIG_DFL
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        ]
        connection.send(repr((os.getsid(0) == os.getpid(), all(usual))).encode())
        return 0

    with serving(tmp_path, name) as launcher:
        assert launcher.ask() == b"(True, True)"


def test_the_launcher_has_no_descriptor_of_its_callers(tmp_path: Path) -> None:
    def linger(connection: socket.socket) -> int:
        connection.recv(1)
        connection.send(b"there")
        connection.recv(1)  # until the caller hangs up
        return 0

    with serving(tmp_path, linger) as launcher, launcher.connect() as connection:
        before = list_open(launcher.process)
        reading, writing = os.pipe()
        name = str(Path(f"/proc/self/fd/{writing}").readlink())
        send_packet(connection, b"x", (writing,))
        assert connection.recv(LIMIT) == b"there"
        until(lambda: list_open(launcher.process) <= before)
        assert name not in list_open(launcher.process)
        os.close(reading)
        os.close(writing)


def test_who_says_nothing_holds_up_nobody(tmp_path: Path) -> None:
    with serving(tmp_path) as launcher:
        silent = [launcher.connect() for _ in range(server.MOST_SILENT * 2)]
        assert launcher.ask(b"x").startswith(b"x ")
        for each in silent:
            each.close()


def test_the_oldest_silent_connection_makes_room(tmp_path: Path) -> None:
    with serving(tmp_path, prepare=lambda: setattr(server, "MOST_SILENT", 2)) as launcher:
        first, second, third = (launcher.connect() for _ in range(3))
        assert first.recv(1) == b""
        for each in (second, third):
            each.send(b"x")
            assert each.recv(LIMIT)
            each.close()
        first.close()


def test_a_silent_connection_is_given_up(tmp_path: Path) -> None:
    with (
        serving(tmp_path, prepare=lambda: setattr(server, "_PATIENCE", SHORT)) as launcher,
        launcher.connect() as silent,
    ):
        assert silent.recv(1) == b""
        assert launcher.ask()


def test_who_hangs_up_or_says_nothing_at_all_is_not_forked_for(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.touch()

    def note(connection: socket.socket) -> int:
        with count.open("a") as file:
            file.write("x")
        connection.send(b"x")
        return 0

    with serving(tmp_path, note) as launcher:
        for _ in range(100):
            launcher.connect().close()
        with launcher.connect() as empty:
            empty.send(b"")
            assert empty.recv(1) == b""
        assert launcher.ask() == b"x"
    assert count.read_text() == "x"


def test_a_caller_that_closes_after_its_request_is_served_to_the_end(tmp_path: Path) -> None:
    """What it asked for is the fork's matter, as is that nobody hears of it."""
    with serving(tmp_path) as launcher:
        with launcher.connect() as connection:
            connection.send(b"x")
        assert launcher.ask(b"y").startswith(b"y ")


def allow_no_process() -> None:
    """Have fork fail with EAGAIN, as it does beyond a user's limit, and threads as well."""
    resource.setrlimit(resource.RLIMIT_NPROC, (1, resource.getrlimit(resource.RLIMIT_NPROC)[1]))


def allow_one_descriptor() -> None:
    """Leave room for one descriptor: a connection's."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with suppress(OSError):
        while True:
            last = os.open(os.devnull, os.O_RDONLY)
    os.close(last)


def end_pid_namespace() -> None:
    """Have fork fail with ENOMEM for good, as it does in a PID namespace whose first process has ended."""
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWPID)
    if (first := os.fork()) == 0:
        os._exit(0)
    os.waitpid(first, 0)


@pytest.mark.parametrize(
    ("prepare", "number"),
    [(allow_no_process, errno.EAGAIN), (end_pid_namespace, errno.ENOMEM), (allow_one_descriptor, errno.EMFILE)],
    ids=["processes", "memory", "descriptors"],
)
def test_a_launcher_that_can_not_fork_tells_its_caller(
    tmp_path: Path, prepare: Callable[[], object], number: int
) -> None:
    """Though the caller's descriptors, which nobody reads, can't be closed by a thread either."""
    with serving(tmp_path, prepare=prepare) as launcher:
        for _ in range(3):
            event = parse_event(launcher.ask(b"x", (0,)))
            assert isinstance(event, Failure)
            assert f"the launcher can't fork: {os.strerror(number)}" in event.message
            assert "limit" in event.hint
            assert event.exit_code == MvmnixError.exit_code
        for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
            hard = resource.getrlimit(limit)[1]
            resource.prlimit(launcher.process, limit, (hard, hard))
        if number != errno.ENOMEM:
            assert launcher.ask(b"x").startswith(b"x "), "it goes on"


def test_without_descriptors_connections_wait(tmp_path: Path) -> None:
    def prepare() -> None:
        most = max(map(int, os.listdir("/proc/self/fd"))) + 4  # noqa: PTH208 - numbers
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    with serving(tmp_path, prepare=prepare) as launcher:
        silent = [launcher.connect() for _ in range(20)]
        asking = launcher.connect()
        asking.send(b"x")
        for each in silent:
            each.close()
        assert asking.recv(LIMIT).startswith(b"x ")
        asking.close()


def test_it_ends_when_nobody_came_for_a_while(tmp_path: Path) -> None:
    with serving(tmp_path, idle=SHORT) as launcher:
        launcher.wait()
        with pytest.raises(ConnectionRefusedError):
            launcher.connect()


def test_it_does_not_end_while_somebody_is_connected(tmp_path: Path) -> None:
    with serving(tmp_path, idle=SHORT) as launcher, launcher.connect() as connection:
        with launcher.connect() as other:
            other.settimeout(SHORT * 3)
            with pytest.raises(TimeoutError):
                other.recv(1)
        connection.send(b"x")
        assert connection.recv(LIMIT).startswith(b"x ")


def has_ended(connection: socket.socket) -> bool:
    """Whether the other end is gone, whether it had accepted the connection or not."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_forks_go_on_without_it(tmp_path: Path, number: int) -> None:
    def wait(connection: socket.socket) -> int:
        connection.setblocking(True)
        while connection.recv(LIMIT):
            connection.send(b"%d" % os.getpid())
        return 0

    with serving(tmp_path, wait) as launcher, launcher.connect() as connection, launcher.connect() as silent:
        connection.send(b"x")
        fork = int(connection.recv(LIMIT))
        os.kill(launcher.process, number)
        launcher.wait()
        assert has_ended(silent)
        connection.send(b"x")
        assert int(connection.recv(LIMIT)) == fork
    until(lambda: gone(fork))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_terminals_signals_are_nothing_to_it(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as launcher:
        assert launcher.ask()
        os.kill(launcher.process, number)
        assert launcher.ask(b"x").startswith(b"x ")


def test_no_fork_that_ended_stays(tmp_path: Path) -> None:
    with serving(tmp_path) as launcher:
        forks = [int(launcher.ask().split()[1]) for _ in range(10)]
        until(lambda: not any(Path(f"/proc/{fork}").exists() for fork in forks))


def test_a_fork_that_fails_is_nothing_to_the_others(tmp_path: Path) -> None:
    def fail(connection: socket.socket) -> int:
        if connection.recv(LIMIT) == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        connection.send(b"fine")
        return 0

    with serving(tmp_path, fail) as launcher:
        assert [launcher.ask(data) for data in (b"crash", b"x", b"crash", b"x")] == [b"", b"fine", b"", b"fine"]


def test_ten_thousand_silent_connections_hold_up_no_start(tmp_path: Path) -> None:
    """Each is made, and left; those that are open at a time are as many as a process may have."""
    most = min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    with serving(tmp_path) as launcher:
        before = len(list_open(launcher.process))
        silent: list[socket.socket] = []
        for number in range(10_000):
            silent.append(launcher.connect())
            if len(silent) == most:
                silent.pop(0).close()
            if number % 1000 == 0:
                assert launcher.ask(b"x").startswith(b"x ")
        for each in silent:
            each.close()
        until(lambda: len(list_open(launcher.process)) <= before)
        assert launcher.ask(b"x").startswith(b"x ")


def test_what_a_caller_left_unread_holds_up_no_other(tmp_path: Path) -> None:
    """An empty packet with a descriptor, whose caller is gone: who closes it waits for minutes."""
    with serving(tmp_path) as launcher, lingering() as slow:
        os.kill(launcher.process, signal.SIGSTOP)  # or this process's close is the last one
        with launcher.connect() as connection:
            send_packet(connection, b"", (slow.fileno(),))
        slow.close()
        os.kill(launcher.process, signal.SIGCONT)
        assert launcher.ask(b"1").split()[0] == b"1"


def test_who_waits_for_a_launcher_that_ends_does_not_hold_it_up(tmp_path: Path) -> None:
    with serving(tmp_path) as launcher, lingering() as slow:
        os.kill(launcher.process, signal.SIGSTOP)
        with launcher.connect() as connection:
            send_packet(connection, b"", (slow.fileno(),))
        slow.close()
        os.kill(launcher.process, signal.SIGTERM)
        os.kill(launcher.process, signal.SIGCONT)
        launcher.wait()


def test_a_fork_knows_what_was_said_of_pools_before_its_caller_spoke(tmp_path: Path) -> None:
    templates, pools = HeldTemplates(), Pools()

    def tell(connection: socket.socket) -> int:
        connection.recv(1)
        connection.send(repr([pool.count for pool in pools.kept()]).encode())
        return 0

    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = sealed_memory(b"a plan", name="test")
    with mine, private_sockets.listen(Directory.create(str(tmp_path / "run")), "s.sock", 1) as listening:
        made = server.Server(listening, tell, templates, pools, wait=lambda _end, _plan: 0)
        made._silent[theirs.fileno()] = (theirs, 0.0)
        mine.send(b"x")
        pools.keep(b"name", 3, plan)
        made._turn(0.0)
        os.wait()
        assert mine.recv(100) == b"[3]"
    os.close(plan)
    pools.drop_all()
    for each in (templates, pools):
        each.close()
        each._ours.close()
