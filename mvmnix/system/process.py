"""The only importer of subprocess: argument lists without a shell, a small environment, failures that can be pasted.

What a child is given is written out by its caller, and what isn't can't be inherited by forgetting it:

1. Its program is an absolute path: nothing is looked for by the caller's PATH.
2. Its working directory is `/`, unless the caller names another one by its absolute path.
3. Its PATH is a fixed one, and its environment an allow list.
4. No argument or variable holds a NUL, or text that the system has no bytes for.
"""

import errno
import os
import re
import select
import shlex
import signal
import subprocess  # the one import; see the linter's rule
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Final

from mvmnix.arguments import unsafe
from mvmnix.errors import MvmnixError, clipped
from mvmnix.system import log
from mvmnix.system.child_causes import NO_HINTS, Cause, cause_of, hint_for, signal_of

#: Where a child looks for further programs: the system's own directories, never those of the caller's PATH.
PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin"
#: What every child sees, unless its caller says otherwise: the system's programs, messages that can be parsed.
FIXED: Final = MappingProxyType({"PATH": PATH, "LC_ALL": "C.UTF-8"})
#: What a child sees of our environment; everything else is dropped.
INHERITED: Final = ("TMPDIR",)
#: What a program of the user's own sees besides, one that the configuration or a secret's reference names.
INHERITED_BY_USERS_PROGRAMS: Final = (*INHERITED, "HOME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR")
#: A child that runs beside us.
type Child = subprocess.Popen[bytes]
#: How a program's line begins that names a cause.
_CAUSE: Final = re.compile(r"\s*(([\w./-]{1,60}: )?(error|fatal|E)\b:|<E> \w+:)\s*\S", re.IGNORECASE)
#: Colours and the like that a program sends a terminal (ECMA-48, control sequences).
_SEQUENCE: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
#: In URLs: what stands before the host (RFC 3986, section 3.2.1), and parameters whose values are secret.
_USER: Final = re.compile(r"(://)[^/\s@]+@")
_QUERY: Final = re.compile(r"(?i)([?&][\w-]*(?:token|key|secret|password|signature|sig|auth)=)[^&\s'\"]+")
#: Of a failed child are shown: so many lines of its words, so many characters of each, of its command and of each word.
_LINES, _LINE, _COMMAND, _WORD = 12, 300, 400, 120


@dataclass(frozen=True, slots=True)
class Completed:
    """How a child ended: `stdout` and `stderr` in bytes, its exit status."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes


class BoundedOutput:
    """What a child says on standard error, within bounds: of more, the first and the last bytes are kept."""

    def __init__(self, part: int = 64 << 10) -> None:
        """`part` is how many of the first bytes are kept, and of the last."""
        self._part = part
        self._first, self._last = bytearray(), bytearray()
        #: How many bytes there were.
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take more bytes."""
        self.size += len(data)
        room = self._part - len(self._first)
        self._first += data[:room]
        self._last += data[room:]
        del self._last[: -self._part]

    @property
    def kept(self) -> bytes:
        """The bytes, with a line about those that are missing."""
        missing = self.size - len(self._first) - len(self._last)
        gap = f"\n… {missing} bytes …\n".encode() if missing else b""
        return bytes(self._first) + gap + bytes(self._last)


class ProcessError(MvmnixError):
    """A child could not be started or failed: the command in one line, its first cause, and few words around it.

    `cause` is the line that names it, "" where the child said nothing; `kind` what it is; `done` has all of it. The
    hint is the one for that kind: of `hints`, or of child_causes.py; `hint` is for what the child alone says
    (Cause.OWN). With `secret`, nothing of it may be logged.
    """

    def __init__(
        self,
        done: Completed,
        *,
        hint: str = "",
        hints: Mapping[Cause, str] = NO_HINTS,
        kind: Cause | None = None,
        secret: bool = False,
    ) -> None:
        self.done = done
        self.secret = secret
        self._argv = tuple(map(without_credentials, done.argv))
        self._said = without_credentials(done.stderr.decode(errors="replace"))
        self.cause, words = _first_cause(self._said)
        self.kind = cause_of(done.status, self.cause) if kind is None else kind
        program = "".join(done.argv[:1])
        told = (f"command failed with status {_status(done.status)}: {one_line(self._argv)}", *words)
        super().__init__("\n".join(told), hint=hint_for(self.kind, program, {Cause.OWN: hint, **hints}))

    @property
    def summary(self) -> str:
        """The command in one line, and how it ended."""
        return f"{one_line(self._argv)} (status {_status(self.done.status)})"

    @property
    def whole(self) -> bytes:
        """The whole command and all that it said to stderr, for a log: as text, in which nothing moves a terminal."""
        return _printable(f"{shlex.join(self._argv)}\n{self._said}", keep="\n\t").encode(errors="replace")


def failed_child(error: BaseException) -> ProcessError | None:
    """The failure of a child that is this error, or that it was raised from (`raise … from …`); None without one."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, ProcessError):
            return found
        seen.add(id(found))
        found = found.__cause__
    return None


def _status(status: int) -> str:
    number = signal_of(status)
    return f"{status}" if number is None else f"{status} ({number.name})"


def one_line(argv: Sequence[str]) -> str:
    """A command as a shell would read it, in one line: long words and all but the first ones are cut.

    The lines of a script stand in one, with `;` between them.

    >>> one_line(["/bin/echo", "two words", *"abc"])
    "/bin/echo 'two words' a b c"
    """
    shown: list[str] = []
    room = _COMMAND
    for word in argv:
        quoted = shlex.quote(_shown(word))
        room -= len(quoted) + 1
        if room < 0:
            return f"{' '.join(shown)} … ({len(argv)} words)"
        shown.append(quoted)
    return " ".join(shown)


def _shown(word: str) -> str:
    plain = "; ".join(filter(None, (" ".join(_printable(line).split()) for line in word.splitlines())))
    return f"{plain[:_WORD]}…" if len(plain) > _WORD else plain


def first_cause(said: bytes) -> str:
    """The line of a program's words that names a cause, the first one; without one the last line; "" for no words."""
    return _first_cause(without_credentials(said.decode(errors="replace")))[0].strip()


def without_credentials(text: str) -> str:
    """The text without what stands for a user in URLs, and without values of queries that are named like secrets.

    >>> without_credentials("https://me:secret@host/a?token=abc&b=1")
    'https://…@host/a?token=…&b=1'
    """
    return _QUERY.sub(r"\1…", _USER.sub(r"\1…@", text))


def _first_cause(stderr: str) -> tuple[str, tuple[str, ...]]:
    """The first line that names a cause, and a few more from it on; without one the last line, and some before it.

    Programs say `error: …`, `E: …`, `PROGRAM: fatal: …`. Nix begins with an `error:` that has nothing behind it, and
    says further down what the error is.
    """
    text = _printable(_SEQUENCE.sub("", stderr), keep="\n")
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
    hints: Mapping[Cause, str] = NO_HINTS,
) -> Completed:
    """Run a child to its end and return what it said; nothing of what went to files that were given.

    `timeout` is in seconds; `hint` and `hints` are ProcessError's. Raises ProcessError when it cannot start, takes too
    long, or (with `check`) fails; RefusedError as `_checked` does.
    """
    words, variables = _checked(argv, env, cwd)
    with _failures_told(argv, hint, hints):
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
    completed = Completed(tuple(argv), done.returncode, done.stdout or b"", done.stderr or b"")
    if not check or done.returncode == 0:
        return completed
    raise ProcessError(completed, hint=hint, hints=hints)


@contextmanager
def _failures_told(argv: Sequence[str], hint: str, hints: Mapping[Cause, str]) -> Iterator[None]:
    """Raises ProcessError where it can't start or takes too long."""
    try:
        yield
    except OSError as error:
        raise _unstarted(argv, error, hint, hints) from error
    except subprocess.TimeoutExpired as error:
        said = b"\n".join(filter(None, (_endless(error.timeout), error.stderr)))
        raise ProcessError(Completed(tuple(argv), 124, b"", said), hints=hints, kind=Cause.LATE) from error


def _endless(timeout: float | None) -> bytes:
    return f"error: no end after {timeout} s".encode()


def _unstarted(
    argv: Sequence[str], error: OSError, hint: str = "", hints: Mapping[Cause, str] = NO_HINTS
) -> ProcessError:
    """How a shell would tell it: 127 for a program that isn't there, 126 for one that can't be run.

    A script whose interpreter is missing, and a working directory that is missing, are not a missing program.
    """
    program = argv[0]
    kind: Cause | None = None
    status, why = 126, str(error.strerror)
    match error:
        case FileNotFoundError() if not os.path.lexists(program):
            status, why, kind = 127, "not found", Cause.MISSING
        case FileNotFoundError() if error.filename in {program, os.fsencode(program)}:
            why, kind = "the program that runs it, or a link's target, is not found", Cause.NOT_EXECUTABLE
        case PermissionError() | NotADirectoryError():
            kind = Cause.NOT_EXECUTABLE
        case _ if error.errno == errno.ENOEXEC:
            kind = Cause.NOT_EXECUTABLE
    said = os.fsencode(f"error: {why}: {error.filename or program}")
    return ProcessError(Completed(tuple(argv), status, b"", said), hint=hint, hints=hints, kind=kind)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    before_exec: Callable[[], None] | None = None,
) -> Child:
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
        raise _unstarted(argv, error) from error
    except subprocess.SubprocessError as error:  # what `before_exec` raised is not said (subprocess documentation)
        said = b"error: what it was to enter before it began could not be entered"
        raise ProcessError(Completed(tuple(argv), 126, b"", said), kind=Cause.NAMESPACES) from error


def first_bytes(argv: Sequence[str], *, env: Mapping[str, str], limit: int, timeout: float) -> Completed:
    """What a child prints, `limit` bytes of it at most; it and its session are gone then, and so is what it said else.

    `timeout` is in seconds. Its status is -9 when it printed more. Raises ProcessError when it can't start or takes too
    long; no error has anything of its output, and none is logged.
    """
    try:
        child = spawn(argv, env=env, stdout=subprocess.PIPE)
    except ProcessError as error:
        error.secret = True
        raise
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
        done = Completed(tuple(argv), 124, b"", _endless(timeout))
        raise ProcessError(done, kind=Cause.LATE, secret=True)
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
