"""Children: what they see of our environment, and how their failures are told."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.errors import MOST_CHARACTERS, MOST_LINES, MvmnixError, ReasonCode, RefusedError
from mvmnix.system import process
from mvmnix.system.child_causes import Cause
from mvmnix.system.process import (
    FIXED,
    INHERITED,
    INHERITED_BY_USERS_PROGRAMS,
    PATH,
    Completed,
    ProcessError,
    environment,
    first_bytes,
    run,
    spawn,
)
from tests.patience import EVENT_PATIENCE, PATIENCE, SHORT
from tests.unit.strangers import TEXTS

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
    assert seen.keys() <= {*INHERITED, *FIXED}
    assert (seen["LC_ALL"], seen["PATH"]) == ("C.UTF-8", PATH)
    given = run([ENV], env={"A": "b"}).stdout
    assert given == b"A=b\n"


def test_the_environment_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    fixed = {"PATH": PATH, "LC_ALL": "C.UTF-8"}
    assert environment() == fixed
    for name in ("https_proxy", "LC_ALL", "HOME"):
        monkeypatch.setenv(name, name)
    assert environment() == fixed
    assert environment(("https_proxy",)) == fixed | {"https_proxy": "https_proxy"}
    assert environment(INHERITED_BY_USERS_PROGRAMS) == fixed | {"LC_ALL": "LC_ALL", "HOME": "HOME"}
    assert environment((), {"X": "y"}) == fixed | {"X": "y"}
    assert environment(extra={"LC_ALL": "de"}) == fixed | {"LC_ALL": "de"}


def test_nothing_inherits_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """By no list, named or not; and every directory of the fixed one is the system's."""
    monkeypatch.setenv("PATH", "/tmp/evil")
    assert environment(("PATH",))["PATH"] == PATH
    assert not any("PATH" in names for names in (INHERITED, INHERITED_BY_USERS_PROGRAMS))
    for directory in filter(os.path.exists, PATH.split(":")):
        status = Path(directory).stat()
        assert (status.st_uid, status.st_mode & 0o022) == (0, 0)


def test_the_working_directory_is_not_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["/bin/pwd"]).stdout == b"/\n"
    assert spawn(["/bin/pwd"], stdout=subprocess.PIPE).communicate()[0] == b"/\n"
    assert first_bytes(["/bin/pwd"], env={}, limit=9, timeout=EVENT_PATIENCE).stdout == b"/\n"
    assert run(["/bin/pwd"], cwd=str(tmp_path)).stdout == os.fsencode(tmp_path) + b"\n"


@pytest.mark.parametrize("argv", [[], [""], ["true"], ["./true"], ["../bin/true"], ["~/true"], ["\0/bin/true"]])
def test_a_program_without_its_path_is_refused(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "true").symlink_to("/bin/true")
    monkeypatch.chdir(tmp_path)
    for start in (run, spawn, lambda it: first_bytes(it, env={}, limit=9, timeout=EVENT_PATIENCE)):
        with pytest.raises(RefusedError) as refusal:
            start(argv)
        assert refusal.value.codes == (ReasonCode.ARGUMENT_UNSAFE,)


@pytest.mark.parametrize(
    "options",
    [
        {"cwd": "."},
        {"cwd": ""},
        {"cwd": "/\0"},
        {"env": {"A": "a\0b"}},
        {"env": {"A=B": "c"}},
        {"env": {"": "c"}},
        {"env": {"A": "\ud800"}},
    ],
)
def test_what_no_child_can_be_given_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as refusal:
        run(["/bin/true"], **options)
    assert refusal.value.codes == (ReasonCode.ARGUMENT_UNSAFE,)


def test_a_refusal_shows_no_value_of_a_variable() -> None:
    with pytest.raises(RefusedError) as refusal:
        run(["/bin/true"], env={"TOKEN": "hunter2\0"})
    assert "hunter2" not in refusal.value.message
    assert "TOKEN" in refusal.value.message


@given(TEXTS)
def test_an_argument_is_one_argument_or_refused(text: str) -> None:
    """Whatever a stranger wrote: one element, byte by byte the same; NUL and what isn't text are refused."""
    try:
        said = run(["/usr/bin/printf", "%s|", text]).stdout
    except RefusedError as error:
        assert error.codes == (ReasonCode.ARGUMENT_UNSAFE,)
        assert "\0" in text or any("\ud800" <= c <= "\udfff" for c in text)
    else:
        assert said == os.fsencode(text) + b"|"


def test_no_credential_is_inherited() -> None:
    for name in (*INHERITED, *INHERITED_BY_USERS_PROGRAMS):
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
    assert words == [f"line {number}" for number in range(89, 101)]
    assert (error.cause, error.hint, error.done.status, error.exit_code) == ("line 100", "look", 7, 125)
    assert error.whole.startswith(f"/bin/sh -c '{script}'\nline 1\nline 2\n".encode())
    assert run(["/bin/false"], check=False).status == 1


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (b"warning: x\nerror: first\nerror: second\n", "error: first"),
        (
            b"error:\n       ... while evaluating\n\n       error: opening lock file '/x': y\n",
            "error: opening lock file",
        ),
        (b"a\nfatal: not a git repository\nb\n", "fatal: not a git repository"),
        (b"git: fatal: x\nb\n", "git: fatal: x"),
        (b"Reading\nE: Unable to locate\n", "E: Unable to locate"),
        (b"no errors: 7\nterror: x\nthe error is: y\nlast\n \n", "last"),
        (b"", ""),
    ],
)
def test_the_first_cause_is_shown_before_what_follows_from_it(said: bytes, cause: str) -> None:
    error = ProcessError(Completed(("/bin/x",), 1, b"", said))
    assert error.cause.strip().startswith(cause)
    shown = error.message.split("\n")[1:]
    assert not cause or (shown[0] if "rror" in cause or "fatal" in cause or "E:" in cause else shown[-1]) == error.cause


#: What no child says in earnest, and what some do: lines without end, lines without number, controls, quotes.
FLOODS: tuple[bytes, ...] = (
    *(b"x" * 2**20, b"error: y\n" * 2**17, b"\n" * 2**20, b"error: " + b"z" * 2**20, b"\xff\x1b[2J\0" * 2**18),
    *(b"'\\n\"$(id)" * 2**10, "\u2028\u202e".encode() * 2**10),
)


@pytest.mark.parametrize("said", FLOODS)
@pytest.mark.parametrize(
    "argv",
    [
        *(["/bin/x", *[f"/nix/store/{number:032}-x" for number in range(500)]], ["/bin/x", "'" * 2**16]),
        *(["/bin/x", "\n" * 2**16, "\0", ""], ["/" + "y" * 2**20], ["\x1b[2J\r\n"] * 2**10, []),
    ],
)
def test_no_failure_of_a_child_is_long(argv: list[str], said: bytes) -> None:
    error = ProcessError(Completed(tuple(argv), 1, b"", said), hint="h" * 2**16 + "\n" * 2**10)
    assert_short(error)
    first = error.message.split("\n")[0]
    assert len(first) < 500
    assert all(c.isprintable() for c in error.message.replace("\n", ""))
    assert shlex.split(first.partition(": ")[2].partition(" … (")[0]) is not None, "it could be typed"


@given(st.lists(TEXTS, max_size=60), st.binary(max_size=2000), TEXTS)
def test_nor_is_any_other(argv: list[str], said: bytes, hint: str) -> None:
    assert_short(ProcessError(Completed(tuple(argv), 1, b"", said), hint=hint))


def assert_short(error: MvmnixError) -> None:
    """The bound that docs/reference/command-line.md names."""
    assert len(str(error)) <= MOST_CHARACTERS
    assert len(str(error).splitlines()) <= MOST_LINES


def test_words_that_are_no_text() -> None:
    assert "�" in told("/bin/sh", "-c", r"printf '\377' >&2; exit 1").message


def test_a_child_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    (tmp_path / "bad").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "bad").chmod(0o755)
    assert told("/proc/nonexistent/program").done.status == 127
    assert "not found: /proc/nonexistent/program" in told("/proc/nonexistent/program").message
    for program in (tmp_path / "data", tmp_path, tmp_path / "bad", tmp_path / "data/below"):
        error = told(str(program))
        assert error.done.status == 126
        assert str(program) in error.message
    assert "/proc/nonexistent" in told("/bin/true", cwd="/proc/nonexistent").message


def test_what_to_do_about_a_missing_program_is_not_said_of_a_failing_one(tmp_path: Path) -> None:
    advice = {"hint": "look at it", "hints": {Cause.MISSING: "install it"}}
    script, orphan = tmp_path / "script", tmp_path / "orphan"
    script.write_text("#!/proc/nonexistent/interpreter\n")
    script.chmod(0o755)
    orphan.symlink_to("/proc/nonexistent/target")
    assert told("/proc/nonexistent/program", **advice).hint == "install it"
    assert told("/bin/false", **advice).hint == "look at it"
    for there in ("/etc/passwd", str(script), str(orphan), str(tmp_path)):
        assert told(there, **advice).hint == f"see what it is and who may execute it: ls -lL {there}"
    assert told("/bin/true", cwd="/proc/nonexistent", **advice).hint == "look at it"


def test_a_child_that_takes_too_long() -> None:
    error = told("/bin/sleep", str(PATIENCE), timeout=SHORT)
    assert error.done.status == 124
    assert f"no end after {SHORT} s" in error.message


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
    for program, status in (("/proc/nonexistent", 127), (str(tmp_path), 126)):
        with pytest.raises(ProcessError, match=f"command failed with status {status}"):
            spawn([program])


def test_a_child_beside_us_that_can_not_enter_what_it_was_to_enter() -> None:
    def enter() -> None:
        raise PermissionError

    with pytest.raises(ProcessError) as error:
        spawn(["/bin/true"], before_exec=enter)
    assert error.value.kind is Cause.NAMESPACES


def test_the_one_importer() -> None:
    package = Path(process.__file__).parents[1]
    importers = [path for path in package.rglob("*.py") if "import subprocess" in path.read_text(encoding="utf-8")]
    assert importers == [Path(process.__file__)]
