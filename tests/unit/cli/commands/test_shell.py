"""`mvm shell` as a user sees it: raw bytes both ways, sizes, and a terminal that is as it was, however it ends."""

import signal
import sys
import termios
from collections.abc import Callable

import pytest

from tests.patience import until
from tests.repository import ROOT
from tests.seat import Seat
from tests.unit.cli.machines import kinds, launch_web, typed
from tests.unit.cli.plans import signed
from tests.unit.cli.station import Station


def sits(station: Station, *arguments: str, command: tuple[str, ...] = ("shell",)) -> Seat:
    """`mvm shell`, or another command, at a terminal."""
    argv = [sys.executable, "-m", "mvmnix.cli", *command, *arguments]
    return Seat(argv, {"HOME": str(station.home), "TERM": "vt220"}, ROOT)


def test_a_shell(settled: Station) -> None:
    launch_web(settled, "--verb", "shell", verbs=["exec", "shell"])
    seat = sits(settled, "web", "sh", "--login")
    seat.until(b"drive this terminal")
    seat.until(b"a shell sh --login vt220 30x100\r\n")
    seat.until(b"[30x100]")
    assert not termios.tcgetattr(seat.seat)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    seat.types(b"\x03\x1b[A\x1d\x1d")  # keys that mean something to a terminal are the guest's
    seat.until(b"<\x03\x1b[A\x1d\x1d>")
    termios.tcsetwinsize(seat.seat, (50, 132))
    seat.child.send_signal(signal.SIGWINCH)
    seat.until(b"[50x132]")
    seat.types(b"\x04")
    assert seat.leaves() == 7
    assert kinds(settled).count("shell") == 1
    assert settled.mvm("audit", "verify").code in {0, 3}


@pytest.mark.parametrize("options", [("-it",), ("-ti",), ("-i", "-t"), ("--interactive", "--tty")])
def test_a_command_gets_a_terminal(settled: Station, options: tuple[str, ...]) -> None:
    launch_web(settled, "--verb", "shell", verbs=["exec", "shell"])
    seat = sits(settled, "-e", "TERM=dumb", "web", "top", "-it", command=("exec", *options))
    seat.until(b"drive this terminal")
    seat.until(b"a shell top -it dumb 30x100\r\n")
    seat.types(b"\x03")
    seat.until(b"<\x03>")
    seat.types(b"\x04")
    assert seat.leaves() == 7
    assert (kinds(settled).count("shell"), kinds(settled).count("exec")) == (1, 0)


def test_a_terminal_takes_the_verb_shell(settled: Station) -> None:
    launch_web(settled, "--verb", "exec", verbs=["exec", "shell"])
    seat = sits(settled, "web", "top", command=("exec", "-it"))
    assert seat.leaves() == 126
    assert b"refused [verb-not-granted]" in seat.shown
    assert b"mvm plan create --verb shell" in seat.shown


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-it",), "standard input and output are not a terminal"),
        (("-t",), "-t goes with -i"),
        (("-it", "--timeout", "3"), "neither --timeout nor --raw"),
        (("-it", "--raw"), "neither --timeout nor --raw"),
    ],
)
def test_no_terminal_for(settled: Station, options: tuple[str, ...], why: str) -> None:
    said = settled.mvm("exec", *options, "web", "top")
    assert (said.code, said.out, why in said.err) == (2, "", True), said.err


def hang_up(seat: Seat) -> None:
    seat.types(b"\x1d\x1d\x1d")


def signalled(number: signal.Signals) -> Callable[[Seat], None]:
    return lambda seat: seat.child.send_signal(number)


@pytest.mark.parametrize(
    ("end", "code"),
    [(hang_up, 129), *((signalled(number), 128 + number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))],
    ids=["keys", "SIGTERM", "SIGHUP", "SIGINT"],
)
def test_the_terminal_is_as_it_was_and_the_shell_gone(settled: Station, end: Callable[[Seat], None], code: int) -> None:
    launch_web(settled, "--verb", "shell", verbs=["shell"])
    seat = sits(settled, "web")
    seat.until(b"[30x100]")
    end(seat)
    assert seat.leaves() == code
    again = sits(settled, "web")  # the machine takes the next one
    again.until(b"[30x100]")
    again.types(b"\x04")
    assert again.leaves() == 7


def test_the_machines_end_gives_the_terminal_back(settled: Station) -> None:
    launch_web(settled, "--verb", "shell", verbs=["shell"])
    seat = sits(settled, "web")
    seat.until(b"[30x100]")
    settled.mvm("kill", "web")
    assert seat.leaves() == 125
    assert b"has ended" in seat.shown


@pytest.mark.parametrize("posture", ["dev", "sealed"])
def test_what_the_plan_does_not_grant_is_refused(settled: Station, posture: str) -> None:
    launch_web(settled, posture=posture, verbs=["shell"] if posture == "dev" else [])
    seat = sits(settled, "web")
    assert seat.leaves() == 126
    assert b"refused [verb-not-granted]" in seat.shown
    assert kinds(settled)[-1] == "refusal"


def test_without_a_terminal_there_is_no_shell(settled: Station) -> None:
    launch_web(settled, "--verb", "shell", verbs=["shell"])
    assert typed(settled, "shell", "web", stdin=b"ls\n").returncode == 2
    until(lambda: "shell" not in kinds(settled))


def runs(station: Station, *options: str, verbs: tuple[str, ...] = ("exec", "shell")) -> Seat:
    """`mvm run`, with a command of its own, at a terminal, in a process whose hypervisor is none."""
    flake = station.flake(verbs=list(verbs))
    program = (
        "from pathlib import Path; from mvmnix.api import admission, launch; from mvmnix.system import own_flake\n"
        "from mvmnix.launch import backends\n"
        "from tests.unit.launch.null_sandbox import NullJail\n"
        "from tests.unit.launch.fake_hypervisor import FakeHypervisor\n"
        "from tests.support import forked_launcher\n"
        "backends.Qemu.find = lambda: FakeHypervisor(); admission.open_jail = lambda _: NullJail()\n"
        "launch.reach = forked_launcher.reach\n"
        f"own_flake.directory = lambda: Path({str(station.path / 'installation')!r})\n"
        "from mvmnix.cli.main import run; run()"
    )
    argv = [sys.executable, "-P", "-c", program, "run", *options, flake, "--", "top", "-b"]
    return Seat(argv, {"HOME": str(station.home), "TERM": "vt220", "PYTHONPATH": str(ROOT)}, ROOT)


def test_a_run_in_a_terminal(settled: Station) -> None:
    seat = runs(settled, "-it", "-e", "GREETING=hello", "--name", "web")
    seat.until(b"drive this terminal")
    seat.until(b"a shell top -b vt220 30x100\r\n")
    seat.until(b"[30x100]")
    assert not termios.tcgetattr(seat.seat)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    seat.types(b"\x03\x1d\x1d")
    seat.until(b"<\x03\x1d\x1d>")
    termios.tcsetwinsize(seat.seat, (50, 132))
    seat.child.send_signal(signal.SIGWINCH)
    seat.until(b"[50x132]")
    seat.types(b"\x04")
    assert seat.leaves() == 7
    (machine,) = settled.mvm("ps", "--all", "--json").answer("machines")
    assert (machine["name"], machine["ended"], machine["exitCode"]) == ("web", "guest-exit", 7)
    assert kinds(settled) == ["admission", "start", "shell", "end"]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (hang_up, 129),
        *((signalled(number), 128 + number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)),
        (signalled(signal.SIGQUIT), 128 + signal.SIGTERM),
    ],
    ids=["keys", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"],
)
def test_a_run_in_a_terminal_is_ended(settled: Station, end: Callable[[Seat], None], code: int) -> None:
    seat = runs(settled, "-it")
    seat.until(b"[30x100]")
    end(seat)
    assert seat.leaves() == code
    (machine,) = settled.mvm("ps", "--all", "--json").answer("machines")
    assert (machine["state"], machine["ended"]) == ("ended", "stopped")


@pytest.mark.parametrize(
    ("options", "verbs", "code", "why"),
    [
        (("-it",), ("exec",), 126, b"refused [verb-not-granted]"),
        (("-it", "--secret-env", "A=env:HOME"), ("shell",), 2, b"secrets as variables"),
        (("-it", "--backend", "container"), ("shell",), 2, b"a container gets no terminal"),
        (("-t",), ("shell",), 2, b"-t goes with -i"),
        (("-it", "--raw"), ("shell",), 2, b"-t and --raw exclude each other"),
        (("-it", "--no-verbs"), ("shell",), 2, b"--no-verbs grants none"),
        (("-dit",), ("shell",), 2, b"neither standard input nor a terminal"),
        (("-di",), ("shell",), 2, b"neither standard input nor a terminal"),
        (("-d", "--raw"), ("shell",), 2, b"neither standard input nor a terminal"),
    ],
)
def test_no_run_in_a_terminal(
    settled: Station, options: tuple[str, ...], verbs: tuple[str, ...], code: int, why: bytes
) -> None:
    seat = runs(settled, *options, verbs=verbs)
    assert seat.leaves() == code
    assert why in seat.shown
    assert settled.mvm("ps", "--all", "--json").answer("machines") == []


def test_a_run_without_a_terminal_gets_none(settled: Station) -> None:
    said = settled.mvm("run", "-it", settled.flake(verbs=["shell"]), "--", "top")
    assert (said.code, "standard input and output are not a terminal" in said.err) == (2, True)


def test_a_launch_in_a_terminal_takes_a_plan_that_grants_it(settled: Station) -> None:
    bundle = signed(settled, reference=settled.flake(verbs=["exec", "shell"]), command=("top",))
    seat = sits(settled, "-it", str(bundle), command=("launch",))
    assert seat.leaves() == 126
    assert b"refused [verb-not-granted]" in seat.shown
    assert b"mvm plan create --verb shell" in seat.shown
    assert kinds(settled) == ["admission", "refusal"]
