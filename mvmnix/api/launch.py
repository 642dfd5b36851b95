"""Starts machines for this process, by the launcher, and holds on to them: the caller's side of a start.

Nothing is verified here, and nothing is started: the process at the other end does both (launcher/start.py). It is
handed what this process reaches, as descriptors.
"""

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from mvmnix.api import files, held_files
from mvmnix.api.context import Context
from mvmnix.api.launchers import reach, reap
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.control.connection import Connection
from mvmnix.launch.control.drivers import Steps, Work
from mvmnix.launch.control.messages import Stream
from mvmnix.launch.control.own_directories import open_shown
from mvmnix.launch.control.pool_messages import PoolRequest
from mvmnix.launch.control.start_messages import (
    Connect,
    Created,
    Detach,
    Ended,
    Mode,
    Started,
    StartRequest,
    StopRequest,
    TerminalResized,
    TerminalSize,
)
from mvmnix.launch.control.starts import Answer, Caller, NotTakenError, begin, finish
from mvmnix.launch.means import Means, OwnMeans
from mvmnix.machines.registry import waiting_machine
from mvmnix.machines.retention import Retention
from mvmnix.system import log
from mvmnix.system.descriptors import ask_for_senders
from mvmnix.system.store import sealed_memory

#: Attempts to have a request read: a launcher may end just when it is reached.
_TRIES: Final = 3
_EXPORTED: Final = "name a directory of `mvm build --out`"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """How a machine is started: what becomes of it, its name, how long it is kept after its end.

    `image` is a directory of an exported image, `vsa` the file of a verifier's summary of it; without them the image is
    kept here. `snapshot` is the id of what its guest goes on from. `streams` are the pipes of an attached command, and
    `terminal` is the size of its terminal. `ports` are those at which this process answers the guest. With `private`
    the launcher is this process's child, and serves it alone.
    """

    mode: Mode = Mode.DETACHED
    name: str = ""
    retention: Retention = Retention.ALWAYS
    image: str = ""
    vsa: str = ""
    snapshot: str = ""
    streams: Mapping[Stream, int] = field(default_factory=dict)
    terminal: TerminalSize | None = None
    ports: tuple[int, ...] = ()
    is_build: bool = False
    private: bool = False

    def __post_init__(self) -> None:
        if self.vsa and not self.image:
            raise UsageError("--vsa goes with --image", hint="name the directory with the image's files")


class ContextCaller:
    """Answers what a start asks, with a context's frontend and configuration, and this process's own means."""

    def __init__(self, context: Context) -> None:
        self.means: Means = OwnMeans()
        self._context = context

    @property
    def can_answer(self) -> bool:
        """Whether a question would be answered: by the configuration, or by the user."""
        return self._context.config.key_password is not None or self._context.frontend.can_ask()

    def notice(self, text: str) -> None:
        """Show a line of prose."""
        self._context.frontend.notice(text)

    def answer(self, question: str) -> str:
        """Return the secret: from where config.toml says, else from the user."""
        where = self._context.config.key_password
        if where is not None:
            from mvmnix.api.signing import read_secret  # noqa: PLC0415 - most starts ask for no password

            return read_secret(where, question)
        return self._context.frontend.ask(question) if self._context.frontend.can_ask() else ""

    def guest_connected(self, port: int, descriptor: int) -> None:  # noqa: ARG002 - of the protocol
        """Close a connection that this caller doesn't serve."""
        os.close(descriptor)


class RunningMachine:
    """A machine that was started for this process; a context manager.

    Leaving it hangs up: the machine ends, unless it is detached.
    """

    def __init__(self, connection: Connection, caller: Caller, started: Started) -> None:
        """Made by `start_machine` and `start_created` only."""
        self.connection = connection
        self.caller = caller
        self.started = started

    @property
    def id(self) -> str:
        """Its id: 12 hexadecimal digits."""
        return self.started.machine

    def finish(self) -> Steps[Ended]:
        """Wait for its end. Raises why it could not go on."""
        return finish(self.connection, self.caller)

    def connect(self) -> Steps[Connection]:
        """Make another connection, on which the machine is called (launch/control/calls.py)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made = Connection(ours)
        try:
            with theirs:
                ask_for_senders(theirs)
                yield from self.connection.send(Connect(), (theirs.fileno(),))
        except BaseException:
            made.close()
            raise
        return made

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it as a signal would: in order, and at once for a second call."""
        self.connection.tell(StopRequest(number))

    def resize(self, rows: int, columns: int) -> None:
        """Tell its command the size of the terminal."""
        self.connection.tell(TerminalResized(rows, columns))

    def detach(self) -> Steps[None]:
        """Let it go on without this process."""
        yield from self.connection.send(Detach())
        self.connection.close()

    def close(self) -> None:
        """Hang up. A second call does nothing."""
        self.connection.close()
        reap()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_machine(
    context: Context, plan: bytes, options: StartOptions, caller: ContextCaller | None = None
) -> Steps[RunningMachine]:
    """Start a machine from a signed plan, a bundle or several; nothing of it is verified here.

    Raises RefusedError, which is in the log; UsageError; MvmnixError.
    """
    return (yield from _run(context, plan, "", options, caller or ContextCaller(context)))


def find_created(context: Context, machine: str) -> tuple[str, StartOptions]:
    """Return the id of a machine that was created, and the options by which it is started, in the background.

    Raises UsageError for one that can't be started.
    """
    status, origin = waiting_machine(context.machines, machine)
    return status.machine, StartOptions(image=origin.image, vsa=origin.summary)


def start_created(context: Context, machine: str, options: StartOptions) -> Steps[RunningMachine]:
    """Start the machine with this id, which was created. Raises as `start_machine` does."""
    return (yield from _run(context, b"", machine, options, ContextCaller(context)))


def create_machine(context: Context, plan: bytes, options: StartOptions) -> Steps[str]:
    """Have a machine verified and registered that doesn't run yet; return its id. Raises as `start_machine` does."""
    connection, made = yield from _start(context, plan, "", options, ContextCaller(context))
    connection.close()
    return expected(made, Created).machine


def save_machine(context: Context, plan: bytes, options: StartOptions) -> Steps[Ended]:
    """Have a template made by the machine of a plan for one; return how that ended. Raises as `start_machine` does."""
    saved = replace(options, mode=Mode.SAVED)
    connection, made = yield from _start(context, plan, "", saved, ContextCaller(context))
    connection.close()
    return expected(made, Ended)


def _run(
    context: Context, plan: bytes, created: str, options: StartOptions, caller: ContextCaller
) -> Steps[RunningMachine]:
    connection, made = yield from _start(context, plan, created, options, caller)
    if options.mode is Mode.DETACHED or not isinstance(made, Started):
        connection.close()  # as the other end does
    return RunningMachine(connection, caller, expected(made, Started))


def expected[T](made: Answer, kind: type[T]) -> T:
    """Return an answer that is of this kind. Raises MvmnixError for another one."""
    if not isinstance(made, kind):
        why = f"the launcher answered {type(made).__name__}, and not {kind.__name__}"
        raise MvmnixError(why, hint="report this as a bug")
    return made


def _start(
    context: Context, plan: bytes, created: str, options: StartOptions, caller: ContextCaller
) -> Steps[tuple[Connection, Answer]]:
    with ExitStack() as stack:
        given = open_shown(stack, context.roots)
        if not created:
            given["plan"] = given_plan(stack, plan)
        image = _open_image(stack, options.image)
        given |= {f"image {name}": fd for name, fd in image.items()}
        if options.vsa:
            given["summary"] = stack.enter_context(files.regular(options.vsa, _EXPORTED))
        given |= {str(stream): fd for stream, fd in options.streams.items()}
        request = StartRequest(
            mode=options.mode,
            created=created,
            snapshot=options.snapshot,
            name=options.name,
            retention=options.retention,
            terminal=options.terminal,
            image=tuple(image),
            has_summary=bool(options.vsa),
            image_path=_absolute(options.image),
            summary_path=_absolute(options.vsa),
            ports=options.ports,
            is_build=options.is_build,
            can_ask=caller.can_answer,
            log=log.wanted(),
            streams=tuple(options.streams),
        )
        descriptors = [given[name] for name in request.descriptors]
        return (yield from ask(context, request, descriptors, caller, private=options.private))


def ask(
    context: Context,
    request: StartRequest | PoolRequest,
    descriptors: list[int],
    caller: ContextCaller,
    *,
    private: bool = False,
) -> Steps[tuple[Connection, Answer]]:
    """Have a request read and done, by another launcher where the first one ends before it was.

    Returns the answer, and the connection, which is the caller's to close. Raises as `start_machine` does.
    """
    left = _TRIES
    while True:
        left -= 1
        connection: Connection = yield Work(lambda: reach(context.roots, private=private), Connection.close)
        try:
            made = yield from begin(connection, request, descriptors, caller)
        except NotTakenError:
            connection.close()
            if not left:
                raise
            continue
        except BaseException:
            connection.close()
            raise
        return connection, made


def given_plan(stack: ExitStack, plan: bytes) -> int:
    """Return a signed plan as sealed memory, which is closed with the stack."""
    fd = sealed_memory(plan, name="mvmnix-plan")
    stack.callback(os.close, fd)
    return fd


def _open_image(stack: ExitStack, directory: str) -> dict[str, int]:
    """Return descriptors of an exported image's files that are there, by their names. Raises UsageError."""
    if not directory:
        return {}
    paths = {name: str(Path(directory, name)) for name in held_files.EXPORTED}
    return {
        name: stack.enter_context(files.regular(path, _EXPORTED))
        for name, path in paths.items()
        if os.path.lexists(path)
    }


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""  # noqa: PTH100 - a text
