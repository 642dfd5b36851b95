"""mvm's own programs are started by the same Python, isolated, with this very package and nothing of a caller's."""

import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.system import own_interpreter
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT

PLACE = "import mvmnix, json, sys; print(json.dumps([mvmnix.__file__, sys.flags.isolated, sys.path]))"


def run(command: tuple[str, ...], cwd: Path = Path("/"), **variables: str) -> str:
    """Run it to its end; what it prints."""
    done = subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, check=True, timeout=EVENT_PATIENCE
    )
    return done.stdout


def test_a_function_is_called_with_its_arguments() -> None:
    command = own_interpreter.command("builtins", "print", "a b", "-c", "", "é")
    assert run(command, LC_ALL="C.UTF-8") == "a b -c  é\n"


def test_nothing_of_the_callers_is_imported(tmp_path: Path) -> None:
    trap = "raise SystemExit('the trap was imported')"
    for name in ("mvmnix", "importlib", "sitecustomize", "usercustomize", "json"):
        (tmp_path / f"{name}.py").write_text(trap)
    command = own_interpreter.command("builtins", "exec", PLACE)
    printed = run(
        command, cwd=tmp_path, PYTHONPATH=str(tmp_path), PYTHONSTARTUP=str(tmp_path / "json.py"), HOME=str(tmp_path)
    )
    assert str(ROOT / "mvmnix/__init__.py") in printed
    assert str(tmp_path) not in printed


def test_the_interpreter_is_this_one() -> None:
    command = own_interpreter.command("builtins", "exec", "import sys; print(sys.executable, sys.prefix)")
    assert run(command) == f"{sys.executable} {sys.prefix}\n"


def test_flags_that_count_are_handed_on() -> None:
    program = "from mvmnix.system import own_interpreter; print(own_interpreter.command('m', 'f'))"
    argv = (sys.executable, "-S", "-B", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}")
    printed = run(argv)
    assert "'-S'" in printed
    assert "'-B'" in printed


@pytest.mark.parametrize("executable", ["", "python3", "/usr/bin/env", "/proc/nonexistent"])
def test_an_interpreter_that_does_not_know_itself_is_found(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    """A name that a program gave itself isn't executed: what runs is (proc_pid_cmdline(5))."""
    monkeypatch.setattr(sys, "executable", executable)
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    assert own_interpreter.command("m", "f")[0].encode() == words[0]
