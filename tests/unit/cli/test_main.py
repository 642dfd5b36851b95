"""The door: what exits with which code, and what is imported for it."""

import gc
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import click
import pytest

from mvmnix import __version__
from mvmnix.cli import main as door
from mvmnix.cli.commands import ps
from mvmnix.cli.main import ALIASES, COMMANDS, cli
from mvmnix.errors import GuestTimeoutError, MvmnixError, ReasonCode, UsageError, refuse
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT
from tests.unit import import_lists
from tests.unit.cli.station import Station


def test_version_and_help(station: Station) -> None:
    assert station.mvm("--version").out == f"mvm {__version__}\n"
    said = station.mvm("--help")
    assert said.code == 0
    for name in COMMANDS:
        assert f"  {name}  " in said.out
        command = station.mvm(name, "--help")
        assert command.code == 0
        assert f"Usage: mvm {name} " in command.out
    assert not station.state.exists()
    assert not station.config.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("run",),
        ("run", "--nonsense", "."),
        ("run", "path:x?rev=1"),
        ("build",),
        ("launch", "/proc/nonexistent"),
        ("plan",),
        ("plan", "create", ".", "--accelerator", "magic"),
        ("plan", "show", "/proc/nonexistent"),
        ("key", "create", "planner"),
        ("key", "create", "nobody"),
        ("audit", "tail", "--lines", "0"),
        ("audit", "verify", "--pinned", "/proc/nonexistent"),
        ("verify", "/proc/nonexistent"),
    ],
)
def test_a_caller_s_mistake_exits_with_2(station: Station, arguments: tuple[str, ...]) -> None:
    station.settle()
    said = station.mvm(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (MvmnixError("it broke", hint="mend it"), 125, ["mvm: it broke", "next: mend it"]),
        (UsageError("what?"), 2, ["mvm: what?"]),
        (GuestTimeoutError("too long"), 124, ["too long"]),
        (refuse(ReasonCode.UNSIGNED, "the plan", "no signature", "sign it"), 126, ["refused [unsigned]", "sign it"]),
        (FileNotFoundError(2, "No such file or directory", "/x/y"), 125, ["/x/y: No such file or directory"]),
        (OSError(28, "No space left on device"), 125, ["No space left on device"]),
        (ValueError("a bug of ours"), 125, ["unexpected ValueError: a bug of ours", "report this as a bug"]),
        (RecursionError("deep"), 125, ["unexpected RecursionError"]),
        (KeyboardInterrupt(), 130, []),
        (click.exceptions.Abort(), 130, []),
        (click.UsageError("typo"), 2, ["Error: typo"]),
    ],
)
def test_failures_become_words_and_codes(station: Station, failure: BaseException, code: int, words: list[str]) -> None:
    @click.command()
    def fails() -> None:
        raise failure

    station.monkeypatch.setattr(door.LazyGroup, "get_command", lambda _self, _context, _name: fails)
    said = station.mvm("fails")
    assert said.code == code
    assert said.out == ""
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err


def imported(code: str) -> set[str]:
    """The top names of all modules that this code makes a fresh interpreter import."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT)
    return set(done.stdout.decode().split("\n")[-2].split())


def test_the_version_costs_little() -> None:
    code = "from mvmnix.cli.main import cli\ntry: cli.main(['--version'])\nexcept SystemExit: pass"
    assert not imported(code) & {"rich", "cryptography", "jsonschema", "sigstore", "pyroute2", "asyncio", "tomllib"}


@pytest.mark.parametrize("is_there", [True, False])
def test_no_garbage_is_looked_for_while_a_command_is_loaded(monkeypatch: pytest.MonkeyPatch, *, is_there: bool) -> None:
    collecting: list[bool] = []

    def load(name: str) -> ModuleType:
        collecting.append(gc.isenabled())
        if not is_there:
            raise ModuleNotFoundError(name)
        return ps

    monkeypatch.setattr(importlib, "import_module", load)
    with nullcontext() if is_there else pytest.raises(ModuleNotFoundError):
        door.cli.get_command(click.Context(door.cli), "ps")
    assert collecting == [False]
    assert gc.isenabled()


def test_what_commands_import_is_listed() -> None:
    assert import_lists.LISTS.read_text() == import_lists.lists(), "run: .venv/bin/python -m tests.unit.import_lists"


@pytest.mark.parametrize("module", ["run", "launch", "ps"])
def test_a_launch_imports_nothing_heavy(module: str) -> None:
    assert not imported(f"import mvmnix.cli.commands.{module}") & {"jsonschema", "sigstore", "pyroute2", "asyncio"}


def test_a_run_loads_nothing_that_starts_machines() -> None:
    """The launcher does that, and has it loaded."""
    started_by = {"mvmnix.api.admission", "mvmnix.launch.runtime.start", "mvmnix.vmm.qemu", "mvmnix.audit.log"}
    assert not started_by & {*import_lists.imported("mvmnix.cli.commands.run")}


def test_a_launch_hands_a_plan_on_and_loads_nothing_that_reads_one() -> None:
    readers = {"mvmnix.plan.plan", "mvmnix.provenance.policy.policy", "mvmnix.images.store", "mvmnix.keys"}
    assert not readers & import_lists.loaded_by("import mvmnix.cli.commands.launch")


def test_a_call_of_a_machine_loads_neither_plans_nor_what_the_agent_is_told() -> None:
    loaded = import_lists.loaded_by("import mvmnix.cli.commands.exec")
    needless = {"mvmnix.launch.agent.requests", "mvmnix.plan.share", "mvmnix.machines.output_log", "hashlib"}
    assert not needless & loaded


def test_a_call_of_a_machine_loads_neither_nouns_of_images_nor_what_starts_programs() -> None:
    loaded = import_lists.loaded_by("import mvmnix.cli.commands.exec")
    needless = {"mvmnix.model", "mvmnix.arguments", "mvmnix.system.loop", "mvmnix.system.process", "subprocess"}
    assert not needless & loaded


def test_the_supervisor_needs_neither_click_nor_rich() -> None:
    assert not imported("import mvmnix.launch.runtime.supervisor") & {
        "click",
        "rich",
        "jsonschema",
        "sigstore",
        "pyroute2",
    }


def test_the_table_of_commands_is_true() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == (ALIASES[name].split()[-1] if name in ALIASES else name)
    assert cli.get_command(context, "nonsense") is None


_POLICY_CHECK = ("policy", "check", "--policy", str(ROOT / "examples/policy"), "path:x")


#: Commands, and the exit code that each documents for output that can't be written.
_WRITERS = [(("--help",), 125), (("image", "ls"), 125), (_POLICY_CHECK, 2)]


def ended(*arguments: str, stdout: int | None = None, stderr: int = subprocess.PIPE) -> tuple[int, bytes]:
    """The exit code of a command, and what it said on stderr."""
    argv = [sys.executable, "-c", "from mvmnix.cli.main import run; run()", *arguments]  # as this user, root too
    done = subprocess.run(argv, cwd=ROOT, stdout=stdout, stderr=stderr, timeout=EVENT_PATIENCE, check=False)
    return done.returncode, done.stderr or b""


@pytest.mark.parametrize("make", [os.pipe, lambda: tuple(end.detach() for end in socket.socketpair())])
@pytest.mark.parametrize("arguments", [*(words for words, _ in _WRITERS), ("man",), ("ps", "-q")])
def test_a_closed_pipe_ends_a_command_as_it_does_others(
    station: Station, arguments: tuple[str, ...], make: Callable[[], tuple[int, int]]
) -> None:
    """As SIGPIPE would, and without a word; 1 is a verdict, or what a guest said. Without output nothing fails."""
    read, write = make()
    os.close(read)
    try:
        status, said = ended(*arguments, stdout=write)
    finally:
        os.close(write)
    assert (status, said) == (0 if arguments[0] == "ps" else 141, b""), said


@pytest.mark.parametrize(("arguments", "code"), _WRITERS)
def test_a_full_device_is_a_failure(station: Station, arguments: tuple[str, ...], code: int) -> None:
    with Path("/dev/full").open("wb") as full:
        status, said = ended(*arguments, stdout=full.fileno())
    assert (status, b"Exception" in said, b"Traceback" in said) == (code, False, False), said
    assert b"No space left on device" in said


@pytest.mark.parametrize("arguments", [("nonsense",), ("stop", "nothing"), ("verify", "/proc/nonexistent")])
def test_messages_that_can_not_be_written_change_no_exit_code(station: Station, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        assert ended(*arguments, stderr=full.fileno())[0] == 2


def test_what_a_command_left_in_the_buffer_is_written_before_the_exit_code(station: Station) -> None:
    """A command that writes without flushing ends with 125 too, if that can't be written in the end."""
    program = """
import sys, click
from mvmnix.cli import main
command = click.Command("said", callback=lambda: sys.stdout.write("x") and None)
main.LazyGroup.get_command = lambda *_: command
sys.argv = ["mvm", "said"]
main.main()
"""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, b"No space left on device" in done.stderr) == (125, True), done.stderr
