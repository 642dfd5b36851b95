"""Completion: what a shell that asks is told, quickly, and that to ask changes nothing and fails silently."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.cli import completers
from mvmnix.cli.main import COMMANDS, LazyGroup, cli
from mvmnix.images.prune import KeptImages
from tests.unit.cli.commands.test_image import sign_plan
from tests.unit.cli.commands.test_ps import launched
from tests.unit.cli.station import ROOT, Said, Station
from tests.unit.launch.runtime.test_vm_process import wait_until
from tests.unit.test_house import loaded_by


def asked(station: Station, *words: str, shell: str = "bash") -> Said:
    """What a shell is told about the last of these words, which is not complete."""
    with station.monkeypatch.context() as patched:
        patched.setenv("HOME", str(station.home))
        patched.setenv("_MVM_COMPLETE", f"{shell}_complete")
        patched.setenv("COMP_WORDS", " ".join(("mvm", *words)))
        patched.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
        return station.mvm()


def offered(station: Station, *words: str) -> list[str]:
    said = asked(station, *words)
    assert (said.code, said.err) == (0, "")
    kinds = [line.partition(",") for line in said.out.splitlines() if line]
    assert {kind for kind, _, _ in kinds} <= {"plain"}
    return [value for _, _, value in kinds]


def snapshot(station: Station) -> dict[str, tuple[int, int]]:
    return {str(it): (it.lstat().st_mtime_ns, it.lstat().st_ino) for it in station.home.rglob("*")}


def test_commands_and_options(settled: Station) -> None:
    assert offered(settled, "p") == ["pause", "pin", "plan", "policy", "ps"]
    assert offered(settled, "") == sorted(COMMANDS)
    assert offered(settled, "plan", "") == ["create", "ls", "rm", "show", "sign"]
    assert "--follow" in offered(settled, "logs", "--f")
    assert offered(settled, "run", "--backend", "q") == ["qemu"]
    assert offered(settled, "completion", "") == ["bash", "zsh", "fish"]
    assert offered(settled, "pause", "-x") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_what_a_command_is_for(settled: Station, shell: str) -> None:
    words = asked(settled, "pau", shell=shell).out
    assert "pause" in words
    assert COMMANDS["pause"][2] in words


def test_machines_by_what_a_command_takes(settled: Station) -> None:
    settled.mvm("run", "--name", "old", settled.flake(), "--", "true")
    living = launched(settled, "linger", name="web")
    wait_until((settled.state / "machines" / living / "output.log").exists)  # the last that it makes
    before = snapshot(settled)
    assert sorted(offered(settled, "logs", "")) == ["old", "web"]  # both may be of one second, and have no order then
    for command in ("stop", "exec", "pause"):
        assert offered(settled, command, "") == ["web"]
    assert offered(settled, "rm", "") == ["old"]
    assert offered(settled, "start", "") == []
    assert offered(settled, "logs", "w") == ["web"]
    assert snapshot(settled) == before
    settled.mvm("kill", living)


def test_images_and_plans(settled: Station) -> None:
    settled.flake()
    sign_plan(settled, "hello")
    before = snapshot(settled)
    assert offered(settled, "image", "rm", "") == ["builder", "hello"]
    assert offered(settled, "image", "inspect", "h") == ["hello"]
    (digest,) = (it.name[:12] for it in (settled.state / "plans").iterdir())
    assert offered(settled, "plan", "rm", "") == [digest]
    assert snapshot(settled) == before


def test_files_are_the_shell_s(settled: Station) -> None:
    assert asked(settled, "launch", "pl").out == "file,pl\n"
    assert asked(settled, "run", "./ex").out == "dir,./ex\n"
    assert asked(settled, "plan", "create", "--out", "x").out == "file,x\n"


def test_what_a_shell_would_take_for_its_own_is_not_offered(settled: Station) -> None:
    settled.flake()
    settled.monkeypatch.setattr(
        KeptImages, "names", lambda _: frozenset({"a b", "$(id)", "*", "a,b", "-x", "good", ""})
    )
    assert offered(settled, "image", "rm", "") == ["good"]


@pytest.mark.parametrize("command", ["logs", "image rm", "plan rm"])
@pytest.mark.parametrize("state", ["none", "empty", "closed"])
def test_where_nothing_is_kept_or_can_be_read(station: Station, command: str, state: str) -> None:
    if state != "none":
        station.state.mkdir(parents=True, mode=0o700 if state == "empty" else 0o777)
    if state == "closed":
        station.state.chmod(0o777)  # others may write there: it is refused
    before = snapshot(station) if station.home.exists() else {}
    assert offered(station, *command.split(), "") == []
    assert (snapshot(station) if station.home.exists() else {}) == before


@pytest.mark.parametrize("value", ["bash_complete", "bash_source", "nonsense_complete", "", "bash"])
def test_what_fails_is_silent(settled: Station, value: str) -> None:
    with settled.monkeypatch.context() as patched:
        patched.setenv("_MVM_COMPLETE", value)
        patched.delenv("COMP_WORDS", raising=False)
        assert settled.mvm() == Said(0, "", "")


@pytest.mark.parametrize("value", ["bash_complete", "bash_source", "nonsense"])
def test_a_command_is_run_whatever_the_variable_says(settled: Station, value: str) -> None:
    """A verification that was not done is no success."""
    commands = (("verify", "./nothing"), ("run", "./nothing"), ("ps", "--quiet"), ("--version",))
    expected = [settled.mvm(*command) for command in commands]
    settled.monkeypatch.setenv("_MVM_COMPLETE", value)
    assert [settled.mvm(*command) for command in commands] == expected
    assert [said.code == 0 for said in expected] == [False, False, True, True]


def test_root_s_rights_are_given_up_before_names_are_looked_up(settled: Station) -> None:
    said = list[str]()
    settled.monkeypatch.setenv("HOME", str(settled.home))

    def names(*_: object) -> tuple[str, ...]:
        said.append("read")
        return ("web",)

    settled.monkeypatch.setattr("mvmnix.api.names.machine_names", names)
    with cli.make_context("mvm", [], resilient_parsing=True, obj=lambda: said.append("given up")) as context:
        parameter = cli.params[0]
        assert completers.any_machine(context, parameter, "w") == ["web"]
    assert said == ["given up", "read"]


def test_commands_are_offered_without_their_modules() -> None:
    program = """
import os, sys
from mvmnix.cli.main import run
os.environ |= {"_MVM_COMPLETE": "bash_complete", "COMP_WORDS": "mvm ", "COMP_CWORD": "1"}
try:
    run()
except SystemExit:
    pass"""
    loaded = loaded_by(program)
    assert {it for it in loaded if it.startswith(("mvmnix.cli.", "mvmnix.api", "mvmnix.launch"))} == {
        "mvmnix.cli.main",
        "mvmnix.cli.commands",
        "mvmnix.cli.completers",
        "mvmnix.cli.commands.completion",
        "mvmnix.cli.verbosity",
    }


def test_machines_are_offered_without_keys_and_policies() -> None:
    program = """
import os, sys
from mvmnix.cli.main import run
os.environ |= {"_MVM_COMPLETE": "bash_complete", "COMP_WORDS": "mvm stop ", "COMP_CWORD": "2", "HOME": "/proc/self"}
try:
    run()
except SystemExit:
    pass"""
    loaded = loaded_by(program)
    assert not {"cryptography", "rich", "sigstore", "jsonschema", "mvmnix.api.context"} & loaded


def test_the_group_s_own_options_are_completed_too() -> None:
    assert isinstance(cli, LazyGroup)
    with cli.make_context("mvm", [], resilient_parsing=True) as context:
        found = cli.shell_complete(context, "--v")
    assert [it.value for it in found] == ["--version", "--verbose"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_and_starts_no_program(settled: Station, shell: str) -> None:
    def spawned(*_: object, **__: object) -> None:
        raise AssertionError

    settled.monkeypatch.setattr(subprocess, "Popen", spawned)
    said = settled.mvm("completion", shell)
    assert (said.code, said.err) == (0, "")
    assert f"_MVM_COMPLETE={shell}_complete" in said.out


def test_bash_completes_with_it(settled: Station, tmp_path: Path) -> None:
    """The real shell: its own words in, and what it would offer out."""
    settled.mvm("run", "--name", "web", settled.flake(), "--", "true")
    program = tmp_path / "mvm"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -P -c 'from mvmnix.cli.main import run; run()' \"$@\"\n")
    program.chmod(0o755)
    script = settled.mvm("completion", "bash").out
    ask = f'{script}\nCOMP_WORDS=(mvm logs w); COMP_CWORD=2; _mvm_completion mvm\nprintf "%s\\n" "${{COMPREPLY[@]}}"\n'
    environment = {"HOME": str(settled.home), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "--norc", "-c", ask], env=environment, capture_output=True, check=True, text=True)
    assert (done.stdout, done.stderr) == ("web\n", "")
