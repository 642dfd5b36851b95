"""A real launcher in a process of its own: found, started, shared, passed over, listed and ended; up to the gate."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mvmnix.api import launchers
from mvmnix.api.launchers import list_launchers, reach, stop_launchers
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.launch.control import launcher_socket, starts
from mvmnix.launch.control.own_directories import PROBE
from mvmnix.system import own_interpreter, prctl, private_sockets
from mvmnix.system.control_groups import ControlGroups, Controller, GroupLimits
from mvmnix.system.process import spawn
from mvmnix.system.process_identity import ProcessIdentity
from mvmnix.system.roots import Roots
from tests.descriptors import nothing_left_open
from tests.patience import SHORT, until
from tests.repository import ROOT
from tests.support.confinement import enter_landlock, filter_calls, forbid_new_privileges, lower_hard_limit
from tests.support.forks import ForkError, fork_that, result_of
from tests.support.processes import end_with_test, gone, list_open, status
from tests.unit.launcher.requests import NO_PLAN, ask, handed


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roots]:
    """A user's directories; launchers that were started for them are killed at the end."""
    for name in [name for name in os.environ if name.startswith(("XDG_", "MVMNIX_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("mvmnix.system.checkouts.home_of", lambda _: str(tmp_path / "home"))
    with Roots.from_environment(os.environ) as made:
        yield made
        with suppress(FileNotFoundError):  # a test may remove them
            for process in {launcher.process for launcher in list_launchers(made)} - {0, os.getpid()}:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def refusal(roots: Roots, *, private: bool = False, plan: bytes = NO_PLAN) -> RefusedError | MvmnixError:
    """Ask for a machine from what is no plan; the gate's answer, which came all the way."""
    with handed(roots, plan) as found, pytest.raises(MvmnixError) as refused:
        ask(reach(roots, private=private), found)
    return refused.value


def is_the_gates(error: MvmnixError) -> bool:
    """Whether a request came as far as the gate, for a user without a policy."""
    return isinstance(error, RefusedError) and set(error.codes) == {ReasonCode.POLICY_MISSING}


def only(roots: Roots) -> int:
    """Return the process of the one launcher that runs."""
    (launcher,) = list_launchers(roots)
    return launcher.process


def test_a_request_is_judged_by_a_launcher_that_is_started_for_it(roots: Roots) -> None:
    assert list_launchers(roots) == ()
    assert is_the_gates(refusal(roots))
    first = only(roots)
    assert is_the_gates(refusal(roots))
    assert only(roots) == first, "the second one is served by the same"


def test_a_launcher_leaves_its_starter_behind(roots: Roots) -> None:
    refusal(roots)
    process = only(roots)
    found = status(process)
    assert int(found["PPid"]) != os.getpid()
    assert os.getsid(process) == process
    assert Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[4] == "0", "it has a terminal"
    assert found["Umask"] == "0077"


def test_a_launcher_is_not_dumpable(roots: Roots) -> None:
    refusal(roots)

    def look(process: int) -> None:
        prctl.drop_capabilities()
        Path(f"/proc/{process}/environ").read_bytes()

    process = only(roots)
    with pytest.raises(ForkError, match="PermissionError"):
        result_of(lambda: look(process))


@pytest.mark.root("only root sees what a process that isn't dumpable has open")
def test_a_launcher_has_no_descriptor_of_a_callers(roots: Roots) -> None:
    reading, writing = os.pipe()
    refusal(roots)
    found = list_open(only(roots))
    assert str(Path(f"/proc/{only(roots)}/cwd").readlink()) == "/"
    os.close(reading)
    os.close(writing)
    assert not [name for name in found if name.startswith(("pipe:", "/memfd:"))]
    refusal(roots)
    assert list_open(only(roots)) == found


def test_a_caller_has_nothing_left_open_and_no_child(roots: Roots) -> None:
    refusal(roots)
    with nothing_left_open():
        for _ in range(10):
            refusal(roots)
    assert not children()


def children() -> list[int]:
    """List this process's children, zombies among them."""
    return [int(each) for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def are_reaped() -> bool:
    """Whether no child of this process's is left, once it has reaped those that have ended."""
    launchers.reap()
    return not children()


def test_private_launchers_leave_no_zombie_and_no_descriptor(roots: Roots) -> None:
    assert is_the_gates(refusal(roots, private=True))
    with nothing_left_open():
        assert is_the_gates(refusal(roots, private=True))
    assert list_launchers(roots) == ()
    until(are_reaped)


def test_a_private_launcher_is_its_callers_child(roots: Roots) -> None:
    with reach(roots, private=True):
        (child,) = children()
        assert not gone(child)
    until(lambda: gone(child))
    launchers.reap()
    assert children() == []


def be_invisible() -> None:
    """Not be dumpable, as a process that holds keys may be."""
    prctl.set_dumpable(dumpable=False)


@pytest.mark.parametrize(
    "change", [forbid_new_privileges, filter_calls, enter_landlock, be_invisible], ids=lambda each: each.__name__
)
def test_a_caller_that_is_confined_or_can_not_be_seen_has_a_private_one(
    roots: Roots, change: Callable[[], object]
) -> None:
    refusal(roots)
    shared = only(roots)

    def start() -> tuple[bool, int]:
        change()
        connection = reach(roots, private=False)
        found = children()
        with handed(roots) as given, pytest.raises(MvmnixError) as refused:
            ask(connection, given)
        assert is_the_gates(refused.value), refused.value
        return is_the_gates(refused.value), len(found)

    assert result_of(start) == (True, 1)
    assert only(roots) == shared


def lower_memory(limit: int) -> Callable[[], None]:
    """Return what bounds this process's memory for good."""
    return lambda: resource.setrlimit(limit, (1 << 30, 1 << 30))


@pytest.mark.parametrize(
    "change",
    [lower_hard_limit, lambda: os.nice(1), lower_memory(resource.RLIMIT_AS), lower_memory(resource.RLIMIT_DATA)],
    ids=["limit", "niceness", "address space", "data"],
)
def test_a_caller_with_other_limits_has_another_one(roots: Roots, change: Callable[[], object]) -> None:
    refusal(roots)

    def start() -> bool:
        change()
        return is_the_gates(refusal(roots))

    assert result_of(start)
    assert len(list_launchers(roots)) == 2


@pytest.mark.parametrize("mebibytes", [1, 20, 32, 40, 48])
def test_a_launcher_without_memory_to_begin_with_is_one_clear_error(
    roots: Roots, monkeypatch: pytest.MonkeyPatch, mebibytes: int
) -> None:
    """It isn't executed, or Python doesn't begin, or no module is imported."""
    command = own_interpreter.command
    bound = (shutil.which("prlimit") or "", f"--as={mebibytes << 20}:")
    monkeypatch.setattr(own_interpreter, "command", lambda *words: (*bound, *command(*words)))
    error = refusal(roots, private=True)
    assert "memory" in error.hint
    assert error.exit_code == MvmnixError.exit_code
    until(are_reaped)


def test_a_launcher_that_runs_out_of_memory_tells_its_caller_and_goes_on(roots: Roots) -> None:
    refusal(roots)
    process = only(roots)
    hard = resource.prlimit(process, resource.RLIMIT_AS)[1]
    resource.prlimit(process, resource.RLIMIT_AS, (1 << 20, hard))
    for _ in range(3):
        error = refusal(roots, plan=bytes(12 << 20))
        assert "MemoryError" in error.message
        assert "memory" in error.hint
    resource.prlimit(process, resource.RLIMIT_AS, (hard, hard))
    assert is_the_gates(refusal(roots))
    assert only(roots) == process


@pytest.mark.root("only root makes control groups wherever it is")
def test_a_caller_in_a_control_group_that_limits_memory_has_a_launcher_in_it(roots: Roots) -> None:
    refusal(roots)
    groups = ControlGroups.find().limiting(Controller.MEMORY)
    assert groups.parents
    name = f"mvmnix-test-{os.getpid()}"
    group = groups.group(name, GroupLimits(memory=256 << 20, tasks=100))

    def start() -> tuple[bool, bool]:
        group.join()
        mine = Path("/proc/self/cgroup").read_text()
        found = is_the_gates(refusal(roots))
        (launcher,) = (each for each in list_launchers(roots) if each.key == key_of(roots))
        return found, Path(f"/proc/{launcher.process}/cgroup").read_text() == mine

    try:
        assert result_of(start) == (True, True)
        assert len(list_launchers(roots)) == 2
        assert len(list(stop_launchers(roots))) == 2
    finally:
        group.remove()


def test_a_caller_with_other_variables_that_count_has_another_one(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal(roots)
    monkeypatch.setenv("LD_PRELOAD_OTHER", "/x")
    refusal(roots)
    assert len(list_launchers(roots)) == 1
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    refusal(roots)
    assert len(list_launchers(roots)) == 2


def test_twenty_callers_at_the_same_moment_have_one_launcher(roots: Roots) -> None:
    found: list[bool] = []
    gate = threading.Barrier(20)

    def start() -> None:
        gate.wait()
        with Roots.from_environment(os.environ) as own:
            found.append(is_the_gates(refusal(own)))

    threads = [threading.Thread(target=start) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 20
    assert len(list_launchers(roots)) == 1
    assert not children()


def test_replaced_code_has_another_launcher(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher of the code as it was serves no caller that has another; nor does a program start that has neither."""
    refusal(roots)
    before = launcher_socket.launcher_key(ProcessIdentity.read(os.getpid()), roots, os.environ)
    monkeypatch.setattr(launcher_socket, "_code", lambda: iter(["another"]))
    assert launcher_socket.launcher_key(ProcessIdentity.read(os.getpid()), roots, os.environ) != before
    with pytest.raises(MvmnixError, match="changed meanwhile: start it once more"):
        reach(roots, private=False)


#: Reaches a launcher, prints the ids of all, and asks for a machine once there is a line to read.
CALLER = """
import os, sys
from mvmnix.api.launchers import list_launchers, reach
from mvmnix.errors import RefusedError
from mvmnix.system.roots import Roots
from tests.unit.launcher.requests import ask, handed
with Roots.from_environment(os.environ) as roots, handed(roots) as found:
    connection = reach(roots, private=False)
    print(*(each.process for each in list_launchers(roots)), flush=True)
    sys.stdin.readline()
    try:
        ask(connection, found)
    except RefusedError as refused:
        print(*refused.codes)
"""


def test_code_that_is_replaced_under_a_running_launcher(roots: Roots, tmp_path: Path) -> None:
    """Who reached it before is served by it, and who comes later by one of the new code."""
    package = tmp_path / "code/mvmnix"
    shutil.copytree(ROOT / "mvmnix", package)
    environment = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "PYTHONPATH": f"{package.parent}:{ROOT}"}

    def start() -> tuple["subprocess.Popen[str]", set[int]]:
        pipe, argv = subprocess.PIPE, (sys.executable, "-P", "-c", CALLER)
        caller = end_with_test(subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, text=True))
        assert caller.stdout is not None
        return caller, set(map(int, caller.stdout.readline().split()))

    start()[0].communicate("\n")  # it has imported what it needs
    caller, (first,) = start()
    package.rename(tmp_path / "former")
    shutil.copytree(tmp_path / "former", package)
    with (package / "clock.py").open("a") as file:
        file.write("\n")
    assert caller.communicate("\n")[0].split() == [ReasonCode.POLICY_MISSING]
    later, found = start()
    assert len(found - {first}) == 1
    assert later.communicate("\n")[0].split() == [ReasonCode.POLICY_MISSING]


def test_each_file_of_the_code_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mvmnix"
    (package / "launch/control").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    monkeypatch.setattr(launcher_socket, "__file__", str(package / "launch/control/launcher_socket.py"))
    (package / "clock.py").write_text("1")
    before = tuple(launcher_socket._code())
    (package / "__pycache__/x.py").write_text("")
    (package / "page.html").write_text("")
    assert tuple(launcher_socket._code()) == before
    (package / "clock.py").write_text("12")
    assert tuple(launcher_socket._code()) != before


def test_a_launcher_that_ends_as_it_is_reached_is_replaced(roots: Roots) -> None:
    """Its socket lies there, and its lock is free."""
    refusal(roots)
    first = only(roots)
    os.kill(first, signal.SIGKILL)
    until(lambda: gone(first))
    assert is_the_gates(refusal(roots))
    assert only(roots) != first


def key_of(roots: Roots) -> str:
    """Return the key of this process's launcher."""
    return launcher_socket.launcher_key(ProcessIdentity.read(os.getpid()), roots, os.environ)


def test_a_process_under_a_launchers_name_without_its_lock_is_none(roots: Roots) -> None:
    key = key_of(roots)
    with (
        roots.state.child(launcher_socket.DIRECTORY) as directory,
        private_sockets.listen(directory, f"{key}.sock", 4) as listening,
    ):
        assert launcher_socket.connect(directory, key) is None
        listening.setblocking(True)
        listening.accept()[0].close()
        assert is_the_gates(refusal(roots))
        with listening.accept()[0] as connection:
            assert connection.recv(1) == b"", "it was told something"
        assert only(roots) != os.getpid()


def test_a_process_with_the_lock_and_another_identity_is_passed_over(roots: Roots) -> None:
    key = key_of(roots)

    def listen() -> None:
        filter_calls()
        with Roots.from_environment(os.environ) as own:
            directory = own.state.child(launcher_socket.DIRECTORY)
            assert launcher_socket.lock(directory, key) is not None
            private_sockets.listen(directory, f"{key}.sock", 4).detach()
            directory.fd = os.dup(directory.fd)

    with fork_that(listen) as impostor:
        assert only(roots) == impostor
        with reach(roots, private=False) as connection:
            (child,) = set(children()) - {impostor}
            with handed(roots) as found, pytest.raises(RefusedError) as refused:
                ask(connection, found)
        assert is_the_gates(refused.value)
    until(lambda: gone(child))
    launchers.reap()


def test_a_launcher_that_does_not_begin_is_one_clear_error(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    key_of(roots)  # opens the directories
    command = ("/bin/sleep", "1000")
    monkeypatch.setattr(launchers, "_PATIENCE", SHORT)
    started = []

    def start(_: Roots, __: tuple[str, ...], descriptor: int) -> object:
        child = spawn(command, pass_fds=(descriptor,))
        started.append(child)

        class Started:
            @staticmethod
            def wait() -> int:
                return 0

        return Started()

    monkeypatch.setattr(launchers, "_spawn", start)
    with nothing_left_open(), pytest.raises(MvmnixError, match="doesn't begin to listen") as failed:
        reach(roots, private=False)
    assert "--private-launcher" in failed.value.hint
    for child in started:
        child.kill()
        child.wait()


def test_where_no_shared_one_can_be_had_there_is_a_private_one(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that crashes tells nothing."""
    monkeypatch.setattr(launchers, "_start_shared", lambda *_: None)
    assert is_the_gates(refusal(roots))
    assert list_launchers(roots) == ()


def test_launchers_are_ended(roots: Roots) -> None:
    refusal(roots)
    (launcher,) = list_launchers(roots)
    assert launcher.key == key_of(roots)
    with nothing_left_open():
        assert list(stop_launchers(roots)) == [launcher]
    assert list_launchers(roots) == ()
    until(lambda: gone(launcher.process))
    assert list(stop_launchers(roots)) == []
    assert not (Path(roots.paths["state"]) / launcher_socket.DIRECTORY / f"{launcher.key}.sock").exists()


def test_a_launcher_that_does_not_end_is_told(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(roots)
    process = only(roots)
    os.kill(process, signal.SIGSTOP)
    monkeypatch.setattr(launchers, "_END", SHORT)
    with pytest.raises(MvmnixError, match=f"doesn't end \\(process {process}\\)"):
        list(stop_launchers(roots))
    os.kill(process, signal.SIGKILL)


def test_a_launcher_that_stands_still_is_one_clear_error(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(roots)
    process = only(roots)
    os.kill(process, signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(starts, "_PATIENCE", SHORT)
        error = refusal(roots)
    assert "hasn't answered" in error.message
    assert "mvm launcher stop" in error.hint
    os.kill(process, signal.SIGCONT)
    assert is_the_gates(refusal(roots))
    assert only(roots) == process


def test_a_launcher_of_another_pid_namespace_is_not_ended_from_here(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal(roots)
    process = only(roots)
    with monkeypatch.context() as patched:
        patched.setattr(launcher_socket, "holder", lambda *_: 0)
        with pytest.raises(MvmnixError, match="lives in another PID namespace"):
            list(stop_launchers(roots))
    assert not gone(process)


@pytest.fixture
def replaced(roots: Roots, tmp_path: Path) -> Iterator[Roots]:
    """Yield the directories of a caller that comes once there is another state directory, while a launcher runs."""
    refusal(roots)
    Path(roots.paths["state"]).rename(tmp_path / "moved")
    with Roots.from_environment(os.environ) as made:
        yield made
        list(stop_launchers(made))


def test_a_state_directory_that_was_replaced_has_another_launcher(roots: Roots, replaced: Roots) -> None:
    first = only(roots)
    assert is_the_gates(refusal(replaced))
    assert only(replaced) != first
    with handed(roots) as found:  # of a caller that has the former one open
        os.dup2(roots.state.fd, found["state"])
        with pytest.raises(RefusedError, match="the state directory that it handed over is not") as refused:
            ask(reach(roots, private=False), found)
    assert refused.value.codes == (ReasonCode.CALLER_REFUSED,)
    assert only(roots) == first
    assert is_the_gates(refusal(replaced))


def test_a_launcher_whose_directory_is_gone_ends_without_a_trace(roots: Roots, replaced: Roots, tmp_path: Path) -> None:
    first = only(roots)
    shutil.rmtree(tmp_path / "moved")
    for make in (lambda: reach(roots, private=False), lambda: roots.state.create_file(PROBE)):
        with pytest.raises(FileNotFoundError, match=f"{re.escape(roots.state.path)}/launchers"):
            make()
    assert is_the_gates(refusal(replaced))
    kept = sorted(os.listdir(replaced.paths["state"]))  # noqa: PTH208 - names
    os.kill(first, signal.SIGTERM)
    until(lambda: gone(first))
    assert sorted(os.listdir(replaced.paths["state"])) == kept  # noqa: PTH208
    assert is_the_gates(refusal(replaced))


@pytest.mark.parametrize("name", ["cache", "config", "data"])
def test_another_directory_that_vanished_is_made_again(roots: Roots, name: str) -> None:
    refusal(roots)
    first = only(roots)
    shutil.rmtree(roots.paths[name])
    with Roots.from_environment(os.environ) as later:
        assert is_the_gates(refusal(later))
        assert first in {launcher.process for launcher in list_launchers(later)}
        assert len(list_launchers(later)) == 2


def test_names_that_are_no_keys_are_no_launchers(roots: Roots) -> None:
    with roots.state.child(launcher_socket.DIRECTORY) as directory:
        for name in ("x.lock", f"{'0' * 31}.lock", f"{'0' * 32}.sock", f"{'g' * 32}.lock"):
            directory.write_atomic(name, b"")
        assert launcher_socket.keys(directory) == ()


def test_a_forked_caller_does_not_wait_for_its_parents_children(roots: Roots) -> None:
    with reach(roots, private=True):
        assert result_of(lambda: is_the_gates(refusal(roots, private=True)))
    until(are_reaped)


def test_silent_connections_by_the_thousand_hold_up_no_start(roots: Roots) -> None:
    refusal(roots)
    key = key_of(roots)
    silent: list[socket.socket] = []
    with roots.state.child(launcher_socket.DIRECTORY) as directory:
        for number in range(2_000):
            silent.append(private_sockets.connect(directory, f"{key}.sock", 60 * SHORT))
            if len(silent) == 100:
                silent.pop(0).close()
            if number % 500 == 0:
                assert is_the_gates(refusal(roots))
    for each in silent:
        each.close()
