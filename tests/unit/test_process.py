"""Children: what they see of our environment, and how their failures are told."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix import process
from mvmnix.process import INHERITED, INHERITED_BY_DOWNLOADS, ProcessError, environment, run, spawn

ENV = "/usr/bin/env"


def told(*argv: str, **options: object) -> ProcessError:
    with pytest.raises(ProcessError) as error:
        run(argv, **options)  # type: ignore[arg-type]
    return error.value


def test_a_child_sees_the_allowed_variables_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LD_PRELOAD_X", "x")
    monkeypatch.setenv("https_proxy", "proxy")
    monkeypatch.setenv("LC_ALL", "C")
    seen = dict(line.split("=", 1) for line in run([ENV]).stdout.decode().splitlines())
    assert seen.keys() <= set(INHERITED)
    assert (seen["LC_ALL"], seen["PATH"]) == ("C", os.environ["PATH"])
    given = run([ENV], env={"A": "b"}).stdout
    assert given == b"A=b\n"


def test_the_environment_of_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    assert environment() == {}
    monkeypatch.setenv("https_proxy", "proxy")
    monkeypatch.setenv("LANG", "C")
    assert environment() == {"LANG": "C"}
    assert environment(INHERITED_BY_DOWNLOADS) == {"https_proxy": "proxy"}
    assert environment((), {"X": "y"}) == {"X": "y"}
    assert environment(extra={"LANG": "de"}) == {"LANG": "de"}


def test_no_credential_is_inherited() -> None:
    for name in (*INHERITED, *INHERITED_BY_DOWNLOADS):
        assert not any(word in name.upper() for word in ("TOKEN", "SECRET", "PASSWORD", "KEY", "AGENT", "AUTH"))


def test_what_a_child_says(tmp_path: Path) -> None:
    done = run(["/bin/sh", "-c", "cat; pwd; echo no >&2"], input_=b"in\n", cwd=str(tmp_path))
    assert done.stdout == b"in\n" + os.fsencode(tmp_path) + b"\n"
    assert (done.stderr, done.status, done.argv[0]) == (b"no\n", 0, "/bin/sh")
    assert run(["/bin/cat"]).stdout == b"", "no terminal, no waiting for input"


def test_no_shell_looks_at_arguments() -> None:
    word = "$(id) `id` ; * \\ \" ' \n"
    assert run(["/bin/echo", "-n", word]).stdout == word.encode()


def test_a_failure_can_be_pasted_and_shows_the_last_words() -> None:
    script = "for i in $(seq 100); do echo line $i >&2; done; exit 7"
    error = told("/bin/sh", "-c", script, hint="look")
    first, *words = error.message.splitlines()
    assert first.startswith("command failed with status 7: ")
    assert shlex.split(first.partition(": ")[2]) == ["/bin/sh", "-c", script]
    assert words == [f"line {number}" for number in range(81, 101)]
    assert (error.hint, error.done.status, error.exit_code) == ("look", 7, 125)
    assert run(["/bin/false"], check=False).status == 1


def test_words_that_are_no_text() -> None:
    assert "�" in told("/bin/sh", "-c", r"printf '\377' >&2; exit 1").message


def test_a_child_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    (tmp_path / "bad").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "bad").chmod(0o755)
    assert told("/nonexistent/program").done.status == 127
    assert "not found: /nonexistent/program" in told("/nonexistent/program").message
    for program in (tmp_path / "data", tmp_path, tmp_path / "bad", tmp_path / "data/below"):
        error = told(str(program))
        assert error.done.status == 126
        assert str(program) in error.message
    assert "/nonexistent" in told("/bin/true", cwd="/nonexistent").message


def test_a_child_that_takes_too_long() -> None:
    error = told("/bin/sleep", "600", timeout=0.05)
    assert error.done.status == 124
    assert "no end after 0.05 s" in error.message


def test_a_child_that_was_killed() -> None:
    assert told("/bin/sh", "-c", "kill -9 $$").done.status == -signal.SIGKILL


def test_only_the_named_descriptors_are_inherited() -> None:
    ours, theirs = socket.socketpair()
    ours.set_inheritable(True)
    count = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if int(fd) > 2))"
    with ours, theirs:
        done = run([sys.executable, "-S", "-c", count], pass_fds=[theirs.fileno()])
        assert str(theirs.fileno()) in done.stdout.decode()
        assert f"{ours.fileno()}," not in done.stdout.decode()


def test_a_child_beside_us_has_a_session_of_its_own_and_no_terminal() -> None:
    script = "import os, sys; print(os.getsid(0) == os.getpid(), os.stat(0).st_rdev == os.stat('/dev/null').st_rdev)"
    child = spawn([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE)
    assert child.communicate()[0] == b"True True\n"


def test_what_runs_before_exec() -> None:
    child = spawn(["/bin/sh", "-c", "umask"], stdout=subprocess.PIPE, before_exec=lambda: void(os.umask(0o77)))
    assert child.communicate()[0] == b"0077\n"


def void(_: object) -> None:
    """Forget it."""


def test_a_child_beside_us_that_cannot_start(tmp_path: Path) -> None:
    for program in ("/nonexistent", str(tmp_path)):
        with pytest.raises(ProcessError, match="command failed with status 127"):
            spawn([program])


def test_the_one_importer() -> None:
    package = Path(process.__file__).parent
    importers = [path for path in package.rglob("*.py") if "import subprocess" in path.read_text(encoding="utf-8")]
    assert importers == [Path(process.__file__)]


def test_a_child_does_not_work_in_the_callers_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["/bin/pwd"]).stdout == b"/\n"
    assert run(["/bin/pwd"], cwd=str(tmp_path)).stdout.decode().strip() == os.path.realpath(tmp_path)
    with spawn(["/bin/pwd"], stdout=subprocess.PIPE) as child:
        assert child.communicate()[0] == b"/\n"
