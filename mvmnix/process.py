"""The only importer of subprocess: argument lists without a shell, a small environment, failures that can be pasted.

What a child is given is written out by its caller, and what isn't can't be inherited by forgetting it:

1. Its program is an absolute path: nothing is looked for by the caller's PATH.
2. Its working directory is `/`, unless the caller names another one by its absolute path.
3. Its PATH is a fixed one, and its environment an allow list.
4. No argument or variable holds a NUL, or text that the system has no bytes for.
"""

import os
import re
import select
import shlex
import signal
import subprocess  # the one import; see the linter's rule
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Final

from mvmnix import log
from mvmnix.arguments import unsafe
from mvmnix.errors import MvmnixError, clipped

#: Where a child looks for further programs: the system's own directories, never those of the caller's PATH.
PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin"
#: What every child sees, unless its caller says otherwise: the system's programs, messages that can be parsed.
FIXED: Final = MappingProxyType({"PATH": PATH, "LC_ALL": "C.UTF-8"})
#: What a child sees of our environment; everything else is dropped.
INHERITED: Final = ("TMPDIR",)
#: What a program of the user's own sees besides, one that the configuration or a secret's reference names.
INHERITED_BY_USERS_PROGRAMS: Final = (*INHERITED, "HOME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR")
#: How a program's line begins that names a cause.
_CAUSE: Final = re.compile(r"\s*([\w./-]{1,60}: )?(error|fatal|E)\b:\s*\S", re.IGNORECASE)
#: Of a failed child are shown: so many lines of its words, so many characters of each, of its command and of each word.
_LINES, _LINE, _COMMAND, _WORD = 12, 300, 400, 120


@dataclass(frozen=True, slots=True)
class Completed:
    """How a child ended: `stdout` and `stderr` in bytes, its exit status."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes


class ProcessError(MvmnixError):
    """A child could not be started or failed: the command in one line, its first cause, and few words around it.

    `cause` is one line, "" where the child said nothing; `done` has all of it.
    """

    def __init__(self, done: Completed, *, hint: str = "") -> None:
        self.done = done
        self.cause, words = _first_cause(done.stderr)
        told = (f"command failed with status {done.status}: {one_line(done.argv)}", *words)
        super().__init__("\n".join(told), hint=hint)

    @property
    def whole(self) -> bytes:
        """The whole command and all that it said to stderr, for a log."""
        return f"{shlex.join(self.done.argv)}\n".encode(errors="replace") + self.done.stderr


def one_line(argv: Sequence[str]) -> str:
    """A command as a shell would read it, in one line: long words and all but the first ones are cut.

    >>> one_line(["/bin/echo", "two words", *"abc"])
    "/bin/echo 'two words' a b c"
    """
    shown: list[str] = []
    room = _COMMAND
    for word in argv:
        plain = " ".join(_printable(word).split()) if word.strip() else ""
        quoted = shlex.quote(plain if len(plain) <= _WORD else f"{plain[:_WORD]}…")
        room -= len(quoted) + 1
        if room < 0:
            return f"{' '.join(shown)} … ({len(argv)} words)"
        shown.append(quoted)
    return " ".join(shown)


def _first_cause(stderr: bytes) -> tuple[str, tuple[str, ...]]:
    """The first line that names a cause, and a few more from it on; without one the last line, and some before it.

    Programs say `error: …`, `E: …`, `PROGRAM: fatal: …`. Nix begins with an `error:` that has nothing behind it, and
    says further down what the error is.
    """
    text = _printable(stderr.decode(errors="replace"), keep="\n")
    lines = [clipped(line, lines=1, characters=_LINE) for line in text.split("\n") if line.strip()]
    first = next((number for number, line in enumerate(lines) if _CAUSE.match(line)), None)
    if first is None:
        return "".join(lines[-1:]), tuple(lines[-_LINES:])
    return lines[first], tuple(lines[first : first + _LINES])


def _printable(text: str, keep: str = "") -> str:
    return "".join(c if c.isprintable() or c in keep else " " if c.isspace() else "�" for c in text)


def environment(inherited: Sequence[str] = INHERITED, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: FIXED, the named variables of ours that are set (but for PATH), then `extra`."""
    ours = {name: os.environ[name] for name in inherited if name in os.environ and name != "PATH"}
    return dict(FIXED) | ours | dict(extra or {})


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    input_: bytes = b"",
    cwd: str = "/",  # the caller's may be a checkout, whose files `python -m` would run
    timeout: float | None = None,
    check: bool = True,
    pass_fds: Sequence[int] = (),
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    hint: str = "",
    if_missing: str = "",
) -> Completed:
    """Run a child to its end and return what it said; nothing of what went to files that were given.

    `timeout` is in seconds. `hint` says what to do where it fails, `if_missing` where its program isn't there. Raises
    ProcessError when it cannot start, takes too long, or (with `check`) fails; RefusedError as `_checked` does.
    """
    words, variables = _checked(argv, env, cwd)
    try:
        done = subprocess.run(
            words,
            env=variables,
            input=input_,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            timeout=timeout,
            check=False,
            pass_fds=pass_fds,
        )
    except OSError as error:
        raise ProcessError(_unstarted(argv, error), hint=_hint(error, if_missing) or hint) from error
    except subprocess.TimeoutExpired as error:
        raise ProcessError(_endless(argv, timeout), hint=hint) from error
    completed = Completed(tuple(argv), done.returncode, done.stdout or b"", done.stderr or b"")
    if not check or done.returncode == 0:
        return completed
    raise ProcessError(completed, hint=hint)


def _endless(argv: Sequence[str], timeout: float | None) -> Completed:
    return Completed(tuple(argv), 124, b"", f"no end after {timeout} s".encode())


def _hint(error: OSError, if_missing: str) -> str:
    return if_missing if isinstance(error, FileNotFoundError) else ""


def _unstarted(argv: Sequence[str], error: OSError) -> Completed:
    """How a shell would tell it: 127 for a program that isn't there, 126 for one that can't be run."""
    status, why = (127, "not found") if isinstance(error, FileNotFoundError) else (126, error.strerror)
    return Completed(tuple(argv), status, b"", os.fsencode(f"{why}: {error.filename or argv[0]}"))


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    before_exec: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that lives beside us, in a session of its own, with exactly the descriptors in `pass_fds`.

    `before_exec` runs in the child between fork and exec, in `/`. There are no other threads there, so it may take no
    lock that one could hold. Raises ProcessError when the child cannot start, and RefusedError as `run` does.
    """
    words, variables = _checked(argv, env, "/")
    try:
        return subprocess.Popen(
            words,
            env=variables,
            cwd="/",
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=before_exec,  # noqa: PLW1509 - there is no other way to setns(2) and PR_SET_PDEATHSIG
        )
    except OSError as error:
        raise ProcessError(Completed(tuple(argv), 127, b"", str(error).encode())) from error


def first_bytes(argv: Sequence[str], *, env: Mapping[str, str], limit: int, timeout: float) -> Completed:
    """What a child prints, `limit` bytes of it at most; it and its session are gone then, and so is what it said else.

    `timeout` is in seconds. Its status is -9 when it printed more. Raises ProcessError when it can't start or takes too
    long; no error has anything of its output.
    """
    child = spawn(argv, env=env, stdout=subprocess.PIPE)
    if child.stdout is None:  # for the type checker: a pipe was asked for
        raise RuntimeError("a child without its pipe")
    pidfd = os.pidfd_open(child.pid)
    try:
        data, in_time = _read_output(child.stdout.fileno(), pidfd, limit, time.monotonic() + timeout)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
        child.wait()
        child.stdout.close()
        os.close(pidfd)
    if not in_time:
        raise ProcessError(_endless(argv, timeout))
    return Completed(tuple(argv), child.returncode, data, b"")


def is_readable(fd: int, seconds: float) -> bool:
    """Whether it becomes readable in time, as a pidfd does when its process ends (pidfd_open(2)).

    By poll(2): select(2) knows no descriptor above 1,023.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _checked(argv: Sequence[str], env: Mapping[str, str] | None, cwd: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment as they are given to the child; the numbers are those of the module's docstring."""
    variables = environment() if env is None else dict(env)
    # 1. the program
    if not argv or not argv[0].startswith("/"):
        raise unsafe("".join(argv[:1]), "a program is named by its absolute path")
    # 2. the working directory
    if not cwd.startswith("/"):
        raise unsafe(cwd, "a working directory is named by its absolute path")
    # 3. the environment: `environment` has the list
    # 4. what can't be handed over
    for text in (*argv, cwd):
        if not _is_representable(text):
            raise unsafe(text, "it holds what no argument or path can")
    for name, value in variables.items():  # whose values may be secret
        if not name or "=" in name or not _is_representable(name) or not _is_representable(value):
            raise unsafe(name, "it is not the name of a variable, or its value holds what none can")
    log.debug("process", "starting %s", argv[0])
    return list(argv), variables


def _is_representable(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _read_output(output: int, pidfd: int, limit: int, end: float) -> tuple[bytes, bool]:
    """What came from a pipe until `limit` bytes or the child's end, and whether one of these came in time.

    Other holders of the pipe are not waited for.
    """
    data, poll = b"", select.poll()  # not select(), which knows no descriptor above 1,023
    poll.register(output, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while len(data) < limit:
        ready = [fd for fd, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000)]
        if output not in ready:
            return data, pidfd in ready
        portion = os.read(output, limit - len(data))
        data += portion
        if not portion:
            poll.unregister(output)
    return data, True
