"""The only importer of subprocess: argument lists without a shell, a small environment, failures that can be pasted."""

import os
import select
import shlex
import signal
import subprocess  # the one import; see the linter's rule
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from mvmnix.errors import MvmnixError

#: What a child sees of our environment; everything else is dropped.
INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "XDG_RUNTIME_DIR")
#: What a child that downloads sees besides: proxies and the certificates that the machine's owner configured.
INHERITED_BY_DOWNLOADS = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NIX_SSL_CERT_FILE"),
    *("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_DEFAULT_TIMEOUT", "APT_CONFIG"),
)


@dataclass(frozen=True, slots=True)
class Completed:
    """How a child ended: `stdout` and `stderr` in bytes, its exit status."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes


class ProcessError(MvmnixError):
    """A child could not be started or failed; shows the command as it could be typed, and its last words."""

    def __init__(self, done: Completed, *, hint: str = "") -> None:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-20:]
        command = shlex.join(done.argv)
        super().__init__(f"command failed with status {done.status}: {command}\n" + "\n".join(words), hint=hint)
        self.done = done


def environment(inherited: Sequence[str] = INHERITED, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: the named variables of ours that are set, then `extra`."""
    return {name: os.environ[name] for name in inherited if name in os.environ} | dict(extra or {})


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    input_: bytes = b"",
    cwd: str | None = None,
    timeout: float | None = None,
    check: bool = True,
    pass_fds: Sequence[int] = (),
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    hint: str = "",
) -> Completed:
    """Run a child to its end and return what it said; nothing of what went to files that were given.

    `timeout` is in seconds. Raises ProcessError when it cannot start, takes too long, or (with `check`) fails.
    """
    try:
        done = subprocess.run(
            list(argv),
            env=environment() if env is None else dict(env),
            input=input_,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            timeout=timeout,
            check=False,
            pass_fds=pass_fds,
        )
    except OSError as error:
        status, why = (127, "not found") if isinstance(error, FileNotFoundError) else (126, error.strerror)
        unstarted = Completed(tuple(argv), status, b"", os.fsencode(f"{why}: {error.filename or argv[0]}"))
        raise ProcessError(unstarted, hint=hint) from error
    except subprocess.TimeoutExpired as error:
        endless = Completed(tuple(argv), 124, b"", f"no end after {timeout} s".encode())
        raise ProcessError(endless, hint=hint) from error
    completed = Completed(tuple(argv), done.returncode, done.stdout or b"", done.stderr or b"")
    if check and done.returncode != 0:
        raise ProcessError(completed, hint=hint)
    return completed


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    uid: int | None = None,
    before_exec: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that lives beside us, in a session of its own, with exactly the descriptors in `pass_fds`.

    `uid` is its uid and gid, without supplementary groups; None keeps ours. `before_exec` runs in the child between
    fork and exec. Raises ProcessError when the child cannot start.
    """
    try:
        return subprocess.Popen(
            list(argv),
            env=environment() if env is None else dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            preexec_fn=before_exec,  # noqa: PLW1509 - set before any thread starts; PDEATHSIG has no other door
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
        data, in_time = _heard(child.stdout.fileno(), pidfd, limit, time.monotonic() + timeout)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
        child.wait()
        child.stdout.close()
        os.close(pidfd)
    if not in_time:
        raise ProcessError(Completed(tuple(argv), 124, b"", f"no end after {timeout} s".encode()))
    return Completed(tuple(argv), child.returncode, data, b"")


def _heard(output: int, pidfd: int, limit: int, end: float) -> tuple[bytes, bool]:
    """What came from a pipe until `limit` bytes or the child's end, and whether one of these came in time.

    Whoever else holds the pipe then is not waited for.
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
