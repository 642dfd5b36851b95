"""The only starter of helpers: programs of the host that read what a stranger controls, each run in a sandbox.

What a helper has, from the outside in; it starts only when all of it is in place (child.py):

1. The caller's uid, which is never root's (system_user.refuse_root). RLIMIT_NPROC counts by it.
2. A session keyring that holds nothing (system/session_keyring.py).
3. bubblewrap (bwrap(1)): namespaces of its own of every kind, and no more of them; no capability, no new privilege, no
   terminal. bubblewrap is process 1 of its PID namespace, and of one around it; all of that ends with the caller.
4. A root in memory: the system's programs and libraries and the files that the caller names, read-only; /proc, of its
   own PID namespace, read-only; `/work`, empty, of a bounded size, where it may write. Only a loopback device.
5. A filter of system calls (profiles/helpers.py).
6. Landlock, where the kernel has it: the same paths once more, by rule.
7. Limits on memory, processes, files and the size of each; on its time and on what it writes to its caller; where a
   control group can be made, on what all of its processes and files take of memory together (system/control_groups.py).
8. The environment that is written here and by the caller, nothing inherited; absolute program paths that root alone can
   change; standard input closed or bytes; no descriptor of ours but those that the caller names.
"""

import errno
import fcntl
import functools
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from mvmnix.errors import MvmnixError
from mvmnix.formats.escaping import shell_command
from mvmnix.sandbox import seccomp
from mvmnix.sandbox.child import ChildSupervisor, Ended, Pipe, Pipes, Stop
from mvmnix.sandbox.helper_command import GATEWAY, SH, WORK, Bounds, Command, Programs, environment
from mvmnix.sandbox.profiles.helpers import HELPERS, HELPERS_CONNECTED, HELPERS_WITH_GATEWAY
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.system import control_groups, process, session_keyring, system_user
from mvmnix.system.child_causes import NAMESPACES_HINT, Cause, cause_of, hint_for
from mvmnix.system.control_groups import ControlGroups, Controller, Group, GroupLimits
from mvmnix.system.store import memfd

__all__ = ["GATEWAY", "SH", "WORK", "Bounds", "Sandbox"]

#: What names of the control groups of helpers begin with.
_PREFIX: Final = "mvmnix-helper-"
#: Seconds after which a group that has no lock won't get it any more.
_LOCKED_BY: Final = 60.0
_KILLED: Final = -signal.SIGKILL
#: What to do where the sandbox can't be made.
_MAY: Final = f"see that this process may make namespaces and mounts: {NAMESPACES_HINT}; `mvm doctor` tries it"
#: That no space is left is said where there may be no more namespaces: user_namespaces(7).
_UNMADE: Final[Mapping[Cause, str]] = dict.fromkeys((Cause.NAMESPACES, Cause.DENIED, Cause.OWN, Cause.DISK_FULL), _MAY)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What one run of a helper is given besides the system.

    `files` are files and directories of the host by their path inside, read-only: a path, or a descriptor (O_PATH will
    do) of what was looked at already. Of bytes a file is made, which counts for no bound of `bounds`.

    `environment` is the helper's besides PATH, HOME, TMPDIR, LC_ALL and git's settings (git.py). It is on no command
    line, so it may be secret.

    Network: there is a loopback device, up, and nothing else. `gateway` is a listening unix socket of the caller's that
    speaks SOCKS 5 (RFC 1928), whose file others may write to (its directory is closed to them); curl and git connect to
    it by ALL_PROXY. `descriptors` are inherited by the helper under the same numbers. For a program that knows TCP
    proxies alone, pass one end of a socket pair: a script inside can make a listening socket on 127.0.0.1 and send it
    out (SCM_RIGHTS, `socket.send_fds`), and the caller accepts on it what the program connects to. With `connected` it
    is sent connected sockets of the host's network instead, and can make, connect, bind and listen on none itself.

    An exception in the calling thread ends the helper. Where another thread may end it too, `cancelled` is the reading
    end of a pipe, whose hang-up does.
    """

    files: Mapping[str, Path | int | bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    gateway: Path | None = None
    descriptors: tuple[int, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    cancelled: int | None = None
    connected: bool = False

    def run(
        self, program: Candidates, *arguments: str, output: IO[bytes] | None = None, input_: bytes = b""
    ) -> process.Completed:
        """Run a program, and return what it wrote: nothing of standard output that went to the file `output`.

        Raises process.ProcessError when it fails, takes too long (124) or writes too much (-9), MvmnixError where it or
        what makes a sandbox is missing, RefusedError [state-permissions] when others than root could change these.
        """
        return self._run((locate(program), *arguments), output, input_)

    def script(
        self, script: str, *arguments: str, output: IO[bytes] | None = None, input_: bytes = b""
    ) -> process.Completed:
        """As `run`, but a constant script by the system's sh; what varies is among the `arguments`, never in it."""
        return self._run((locate(SH), "-euc", script, "sh", *arguments), output, input_)

    @contextmanager
    def talk(self, script: str, *arguments: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """As `script`, while the caller writes to its standard input and reads its standard output, two open files.

        The caller sees to the size of what it reads, and raises EOFError where the output ends too early: that becomes
        the ProcessError of a helper that failed. Closing the first file ends its input.
        """
        argv = (locate(SH), "-euc", script, "sh", *arguments)
        with Pipes(talks=True) as pipes, ExitStack() as stack:
            to = stack.enter_context(os.fdopen(os.dup(pipes.stdin.writing), "wb", buffering=0))
            heard = stack.enter_context(os.fdopen(os.dup(pipes.stdout.reading), "rb"))
            with self._thread(argv, pipes, None, b"") as run:
                pipes.let_in.wait()
                if run.has_ended:
                    self._completed(argv, run.result())
                try:
                    yield to, heard
                except (BrokenPipeError, EOFError):
                    self._completed(argv, run.result())
                    raise
                to.close()
                self._completed(argv, run.result())

    def _run(self, argv: tuple[str, ...], output: IO[bytes] | None, input_: bytes) -> process.Completed:
        with Pipes() as pipes, self._thread(argv, pipes, output, input_) as run:
            return self._completed(argv, run.result())

    @contextmanager
    def _thread(self, argv: tuple[str, ...], pipes: Pipes, output: IO[bytes] | None, input_: bytes) -> Iterator["_Run"]:
        """A thread that runs it; where the caller gives up, it kills what it started.

        The interpreter's end doesn't wait for it: what it started ends with this process (bwrap(1), --die-with-parent).
        """
        system_user.refuse_root()
        programs = Programs.find()
        cancel = Pipe()
        cancelled = (cancel.reading, *(() if self.cancelled is None else (self.cancelled,)))

        def to_the_end() -> Ended:
            with _translate_errors(argv):
                return self._to_the_end(programs, cancelled, argv, pipes, output=output, input_=input_)

        run = _Run(to_the_end, pipes.let_in)
        thread = threading.Thread(target=run.run, name="mvm-sandbox", daemon=True)
        try:
            thread.start()
            yield run
        finally:
            cancel.close(cancel.writing)
            if thread.ident is not None:
                thread.join()
            cancel.close()

    def _to_the_end(
        self,
        programs: Programs,
        cancelled: tuple[int, ...],
        argv: tuple[str, ...],
        pipes: Pipes,
        *,
        output: IO[bytes] | None,
        input_: bytes,
    ) -> Ended:
        """Start it, read what it writes, and see that nothing of it is left. Raises OSError.

        In a thread of its own: session keyring and mount namespace belong to the thread, and end with it.
        """
        bounds = self.bounds
        files = dict(self.files) | ({GATEWAY: self.gateway} if self.gateway else {})
        command = Command(programs, files, bounds)
        profile = HELPERS_CONNECTED if self.connected else HELPERS_WITH_GATEWAY if self.gateway else HELPERS
        filter_ = memfd(seccomp.program(profile), name="mvmnix-filter")
        limits = GroupLimits(bounds.memory_of_all, bounds.processes)
        with os.fdopen(filter_, "rb"), bind_files(files) as (binds, bound), own_group(limits) as group:
            # 2. the keyring
            session_keyring.renew()
            child = process.spawn(
                (*command.words(binds, filter_), *argv),
                env=environment(self.environment, gateway=self.gateway is not None),
                pass_fds=(*self.descriptors, *bound, filter_),
                stdin=pipes.stdin.reading,
                stdout=pipes.stdout.writing if output is None else output.fileno(),
                stderr=pipes.stderr.writing,
            )
            pipes.started()
            attendant = ChildSupervisor(child, pipes, cancelled, input_=input_, limit=bounds.output, group=group)
            return attendant.supervise(bounds.seconds)

    def _completed(self, argv: tuple[str, ...], ended: Ended) -> process.Completed:
        """Raises ProcessError for a program that failed, MvmnixError for a sandbox that could not be made."""
        if ended.stop is None and ended.status != 0 and not ended.clean:
            raise _unmade(argv, ended)
        bounds = self.bounds
        why = {
            Stop.TIME: (124, Cause.LATE, f"no end after {bounds.seconds} s"),
            Stop.MEMORY: (_KILLED, Cause.MEMORY, f"it took more than {bounds.memory_of_all >> 20} MiB of memory"),
            Stop.OUTPUT: (_KILLED, Cause.FLOODED, "it wrote more than it may"),
            Stop.CANCELLED: (_KILLED, Cause.CANCELLED, "it was cancelled"),
        }
        if ended.stop is not None:
            status, kind, words = why[ended.stop]
            said = b"\n".join(filter(None, (f"error: {words}".encode(), ended.stderr)))
            raise process.ProcessError(process.Completed(argv, status, b"", said), hints=self._hints, kind=kind)
        done = process.Completed(argv, ended.status, ended.stdout, ended.stderr)
        if done.status != 0:
            raise process.ProcessError(done, hints=self._hints)
        return done

    @property
    def _hints(self) -> Mapping[Cause, str]:
        """A sandbox has files and memory of its own: the host's may be plentiful."""
        room, memory = self.bounds.room >> 20, self.bounds.memory >> 20
        larger = "what it was given is too large, or made to be"
        return {
            Cause.DISK_FULL: f"its files may have {room} MiB, whatever the disk has: {larger}",
            Cause.MEMORY: f"it may have {memory} MiB, as far as the machine has that (free -m): {larger}",
            Cause.LATE: f"it may take {self.bounds.seconds} s: {larger}, or this machine is busy (uptime)",
        }


class _Run:
    """What becomes of a call in another thread: its result, or its error. concurrent.futures would load logging."""

    def __init__(self, call: Callable[[], Ended], let_in: threading.Event) -> None:
        """`let_in` is set at its end, too, for a caller that waits for either."""
        self._call, self._let_in = call, let_in
        self._ended = threading.Event()
        self._result: Ended | BaseException | None = None

    def run(self) -> None:
        """Call it."""
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._result = error
        finally:
            self._ended.set()
            self._let_in.set()

    @property
    def has_ended(self) -> bool:
        """Whether there is a result, or an error."""
        return self._ended.is_set()

    def result(self) -> Ended:
        """Wait for the result. Raises what the call raised."""
        self._ended.wait()
        match self._result:
            case Ended() as ended:
                return ended
            case BaseException() as error:
                raise error
            case None:
                raise RuntimeError("a call that ended without a result")


@contextmanager
def own_group(limits: GroupLimits) -> Iterator[Group | None]:
    """A control group of one helper's own, removed with all that is in it; None where none can be made. Raises OSError.

    One can be made in a part of the hierarchy that was delegated to this user. What it counts besides the memory of
    processes are files in memory: those of the helper's root, and memfd_create(2).

    Its maker holds a lock on its directory (flock(2)), which is closed to other users. One whose lock is free was left
    by a maker that was killed; a later maker removes it.
    """
    found = _found()
    if not found.parents:
        yield None
        return
    with ExitStack() as stack:
        for parent in found.parents:
            _remove_abandoned(parent.path)
        name = f"{_PREFIX}{secrets.token_hex(8)}"
        group = found.group(name, limits)
        stack.callback(group.remove)
        for path in found.paths(name):
            stack.callback(os.close, _locked(path))
        yield group


@contextmanager
def bind_files(files: Mapping[str, Path | int | bytes]) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Have bubblewrap show files and directories, each at its path inside, read-only; of bytes it makes a file.

    Yields the words for that, and the descriptors that it inherits. Raises OSError.
    """
    with ExitStack() as stack:
        words, held = list[str](), list[int]()
        for inside, given in files.items():
            held.append(_descriptor(given))
            stack.callback(os.close, held[-1])
            words += ("--ro-bind-data" if isinstance(given, bytes) else "--ro-bind-fd", str(held[-1]), inside)
        yield tuple(words), tuple(held)


@contextmanager
def _translate_errors(argv: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = hint_for(cause_of(1, str(error.strerror)), argv[0], _UNMADE)
        if error.errno == errno.ENOENT:
            hint = f"see that it is there: {shell_command('ls', '-ld', str(error.filename))}"
        raise MvmnixError(f"the sandbox can't be made: {error}", hint=hint) from error


def _unmade(argv: tuple[str, ...], ended: Ended) -> MvmnixError:
    """Those that make the sandbox failed, and the program never began: its files and arguments are not to blame."""
    failure = process.ProcessError(process.Completed(argv, ended.status, b"", ended.stderr), hints=_UNMADE)
    why = failure.cause or f"status {ended.status}"
    error = MvmnixError(f"the sandbox can't be made: {why}", hint=failure.hint)
    error.__cause__ = failure
    return error


@functools.cache
def _found() -> ControlGroups:
    """Looked for once: many helpers are short."""
    return ControlGroups.find().limiting(Controller.MEMORY, Controller.TASKS)


def _locked(path: str) -> int:
    """A descriptor of a directory, with its lock. Raises OSError where another has it."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(directory)
        raise
    return directory


def _remove_abandoned(parent: str) -> None:
    for path in Path(parent).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LOCKED_BY:
                os.close(_locked(str(path)))
                control_groups.remove(str(path))


def _descriptor(given: Path | int | bytes) -> int:
    """A new descriptor of it, for bubblewrap to bind or, of bytes, to read."""
    if isinstance(given, bytes):
        return memfd(given, name="mvmnix-file")
    return os.dup(given) if isinstance(given, int) else os.open(given, os.O_PATH | os.O_CLOEXEC)
