"""Starting, watching and ending a hypervisor, for real, with one that has no machine in it."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.launch.agent.encoding import ChannelClosedError, ChannelProtocolError
from mvmnix.launch.agent.requests import ExecRequest, GuestConfig
from mvmnix.launch.runtime.vm_process import Guest, Preparation
from mvmnix.model import User, Verb, Workload
from mvmnix.system.loop import Loop
from mvmnix.system.process import ProcessError, run, spawn
from mvmnix.vmm.port import Acceleration, Invocation, LaunchSpec, MonitorEvent
from mvmnix.vmm.process import JailedProcess
from tests.descriptors import nothing_left_open
from tests.patience import EVENT_PATIENCE, until
from tests.repository import ROOT
from tests.support.processes import gone
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.null_sandbox import NullJail, NullSandbox

USER = User(1000, 1000)
IDLE = float(EVENT_PATIENCE)


def partial_spec(path: Path) -> LaunchSpec:
    disk = os.open(path, os.O_RDONLY)
    return LaunchSpec(disk, disk, disk, 0, 0, 0, 1, 64, "quiet", Acceleration.TCG, 2_000_000)


@contextmanager
def running(
    path: Path, scenario: Scenario = Scenario.BOOTS, console: Callable[[bytes], None] = lambda _: None
) -> Iterator[Guest]:
    (path / "disk").write_bytes(b"the disk")
    spec, loop = partial_spec(path / "disk"), Loop()
    guest = Preparation(FakeHypervisor(scenario), NullJail(), spec).spawn(loop, console=console, services={})
    os.close(spec.kernel)
    try:
        yield guest
    finally:
        guest.close()
        guest.close()
        loop.close()


def configure(guest: Guest) -> None:
    guest.channel.wait_hello(idle=IDLE)
    guest.channel.configure(GuestConfig("guest", 1, bytes(32), 0, USER, verbs=frozenset({Verb.EXEC})), idle=IDLE)


def output(guest: Guest, *argv: str) -> bytes:
    said = bytearray()
    request = ExecRequest(Workload(argv, {}, "/", USER))
    status = guest.channel.exec(request, stdout=said.extend, stderr=said.extend, idle=IDLE)
    assert status.exit_code == 0
    return bytes(said)


def test_a_guest_boots_runs_and_ends(tmp_path: Path) -> None:
    console = bytearray()
    with running(tmp_path, console=console.extend) as guest:
        configure(guest)
        assert output(guest, "echo", "hello") == b"hello\n"
        assert output(guest, "cat-disk") == b"the disk"
        guest.channel.shutdown(grace_ms=100, idle=IDLE)
        guest.settle(IDLE)
        assert guest.process.ended
    assert guest.events == [MonitorEvent.READY, MonitorEvent.GUEST_RESET]
    assert console == b"booted\n"
    assert guest.console_bytes == len(console)


def test_it_inherits_its_descriptors_and_no_other(tmp_path: Path) -> None:
    secret = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        with running(tmp_path) as guest:
            configure(guest)
            names = output(guest, "descriptors").decode().splitlines()
    finally:
        os.close(secret)
    sockets = [name for name in names if name.startswith("socket:")]
    files = [name for name in names if name.startswith("/") and "/proc/" not in name]
    assert len(sockets) == 3
    assert files == [str(tmp_path / "disk")]


def test_its_session_limits_and_environment(tmp_path: Path) -> None:
    with running(tmp_path) as guest:
        configure(guest)
        process = Path(f"/proc/{guest.process.pid}")
        assert os.getsid(guest.process.pid) == guest.process.pid
        assert "NoNewPrivs:\t1" in (process / "status").read_text()
        assert any(
            line.split()[4] == "0" for line in (process / "limits").read_text().splitlines() if "core file" in line
        )
        assert (process / "environ").read_bytes() == b"LC_ALL=C\0"
        digest = guest.process.executable()
        assert digest is not None
        assert guest.process.cpu_seconds() > 0
    assert guest.process.executable() is None
    assert guest.process.cpu_seconds() == 0.0


def test_a_guest_that_is_closed_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path, Scenario.HANGS) as guest:
        pid = guest.process.pid
        assert not gone(pid)
    assert not Path(f"/proc/{pid}").exists()


def test_it_dies_with_its_supervisor(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"")
    program = (
        "import sys, time; from pathlib import Path\n"
        "from tests.unit.launch.runtime.test_vm_process import running\n"
        "from tests.unit.launch.fake_hypervisor import Scenario\n"
        f"with running(Path({str(tmp_path)!r}), Scenario.HANGS) as guest:\n"
        f"    Path({str(tmp_path / 'pid')!r}).write_text(str(guest.process.pid) + '.')\n"
        "    time.sleep(60)\n"
    )
    supervisor = spawn([sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)})
    pidfile = tmp_path / "pid"
    try:
        until(lambda: pidfile.exists() and pidfile.read_text().endswith("."))
        pid = int(pidfile.read_text()[:-1])
        assert not gone(pid)
    finally:
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    until(lambda: gone(pid))


@pytest.mark.parametrize(
    ("scenario", "events"),
    [
        (Scenario.PANICS, [MonitorEvent.GUEST_RESET]),
        (Scenario.ABORTS, []),
        (Scenario.STOPS, [MonitorEvent.INTERNAL_ERROR]),
    ],
)
def test_whoever_waits_for_a_guest_that_fails_hears_of_it(
    tmp_path: Path, scenario: Scenario, events: list[MonitorEvent]
) -> None:
    with running(tmp_path, scenario) as guest, pytest.raises(ChannelClosedError):
        guest.channel.wait_hello(idle=IDLE)
    # its monitor may have answered before it failed
    assert [event for event in guest.events if event is not MonitorEvent.READY] == events


def test_an_aborting_hypervisor_has_the_last_word(tmp_path: Path) -> None:
    with running(tmp_path, Scenario.ABORTS) as guest, pytest.raises(ChannelClosedError):
        guest.channel.wait_hello(idle=IDLE)
    assert "fake: failed to set MSR 0x10a" in guest.process.last_words
    assert not list(tmp_path.glob("core*"))


def test_a_guest_that_babbles_breaks_the_protocol(tmp_path: Path) -> None:
    with running(tmp_path, Scenario.BABBLES) as guest, pytest.raises(ChannelProtocolError):
        guest.channel.wait_hello(idle=IDLE)


@pytest.mark.parametrize("argv", [("panic",), ("die",)])
def test_a_command_ends_with_its_guest(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with running(tmp_path) as guest:
        configure(guest)
        with pytest.raises(ChannelClosedError):
            output(guest, *argv)


def test_a_hypervisor_that_is_not_there(tmp_path: Path) -> None:
    with nothing_left_open(), pytest.raises(ProcessError, match="/proc/nonexistent/qemu"):
        JailedProcess.spawn(Invocation(("/proc/nonexistent/qemu",), ()), (), NullSandbox())


def test_nothing_is_left_open(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    for scenario in (Scenario.BOOTS, Scenario.PANICS, Scenario.ABORTS):
        with (
            nothing_left_open(),
            running(tmp_path, scenario) as guest,
            pytest.raises((ChannelClosedError, AssertionError)),
        ):
            guest.channel.wait_hello(idle=IDLE)
            raise AssertionError


def test_the_launch_path_is_light() -> None:
    program = (
        "import sys, mvmnix.launch.runtime.supervisor, mvmnix.machines.registry, mvmnix.vmm.qemu\n"
        "print(' '.join(sys.modules))"
    )
    loaded = run([sys.executable, "-c", program]).stdout.decode().split()
    assert not {"click", "jsonschema", "rich", "sigstore", "pyroute2", "asyncio"} & set(loaded)
