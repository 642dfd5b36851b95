"""Reads what is kept of a machine, as steps: its output, its console, its network log, its records in the audit log."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Final, Literal

from mvmnix.api.context import open_context
from mvmnix.api.frontend import SILENT
from mvmnix.api.machine_store import open_machine_store
from mvmnix.audit.reading import SealedRecord
from mvmnix.launch.control.drivers import Steps, Wait
from mvmnix.machines import events
from mvmnix.machines.machine_dir import CONSOLE, LOCK
from mvmnix.machines.network_log import LoggedEvent, MissingEvents, NetworkLogReader
from mvmnix.machines.output_log import Missing, Output, OutputReader, Piece
from mvmnix.sdk.drive import WorkerStack, work
from mvmnix.sdk.errors import NotFound
from mvmnix.sdk.machine import find_entry
from mvmnix.sdk.results import LogPiece
from mvmnix.system.private_dirs import Directory

#: Seconds between two looks at what is followed.
_FOLLOW: Final = 0.1
_CHUNK: Final = 65536

#: Reads what was added since the last call; the directory of the machine is the stack's to close.
type Look[T] = Callable[[], Iterable[T]]
#: Opens what is read, on the stack, for the machine whose directory it is.
type Open[T] = Callable[[ExitStack, Directory], Look[T]]


class LogReader[T]:
    """What is kept of a machine, one after the other; with `follow` up to the machine's end."""

    def __init__(self, machine: str, open_log: Open[T], *, follow: bool) -> None:
        self._machine = machine
        self._open_log = open_log
        self._follow = follow
        self._opened = WorkerStack()
        self._directory: Directory | None = None
        self._look: Look[T] = tuple
        self._found: Iterator[T] = iter(())
        self._is_last = False

    def read(self) -> Steps[T | None]:
        """Return the next one; None after the last. Raises NotFound, and what the log's reader does."""
        while True:
            if (found := next(self._found, None)) is not None:
                return found
            if self._is_last:
                self.close()
                return None
            if self._directory is not None:
                yield Wait(seconds=_FOLLOW)
            self._found = iter((yield from work(partial(self._opened.run, self._look_once))))

    def _look_once(self, stack: ExitStack) -> tuple[T, ...]:
        if self._directory is None:
            self._directory = _machine_directory(self._machine, stack)
            self._look = self._open_log(stack, self._directory)
        self._is_last = not self._follow or self._directory.holder(LOCK) is None  # asked before the last look
        return tuple(self._look())

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self._is_last = True
        self._opened.close()


def _machine_directory(machine: str, stack: ExitStack) -> Directory:
    machines = stack.enter_context(open_machine_store(SILENT))
    try:
        return stack.enter_context(machines.existing(find_entry(machines, machine).status.machine))
    except FileNotFoundError as error:
        hint = "Sandbox.list() has those that are left"
        raise NotFound(f"the machine {machine} was removed", hint=hint) from error


def output(machine: str, source: Literal["output", "console"], *, follow: bool) -> LogReader[LogPiece]:
    """Read what its own command printed, or its kernel."""
    return LogReader(machine, _open_output if source == "output" else _open_console, follow=follow)


def _open_output(stack: ExitStack, directory: Directory) -> Look[LogPiece]:
    reader = stack.enter_context(closing(OutputReader(directory)))
    return lambda: map(_piece, reader.read())


def _open_console(stack: ExitStack, directory: Directory) -> Look[LogPiece]:
    file = stack.enter_context(os.fdopen(directory.open_file(CONSOLE), "rb", buffering=0))
    return lambda: (LogPiece("stdout", data) for data in iter(lambda: file.read(_CHUNK), b""))


def _piece(piece: Piece | Missing) -> LogPiece:
    match piece:
        case Missing(count):
            return LogPiece("stdout", b"", count)
        case Piece(Output.STDERR, data):
            return LogPiece("stderr", data)
        case Piece(_, data):
            return LogPiece("stdout", data)


def network_log(machine: str, *, follow: bool) -> LogReader[LoggedEvent | MissingEvents]:
    """Read the verdicts about its network; a machine without one has none."""

    def open_log(stack: ExitStack, directory: Directory) -> Look[LoggedEvent | MissingEvents]:
        return stack.enter_context(closing(NetworkLogReader(directory))).read

    return LogReader(machine, open_log, follow=follow)


def audit_records(machine: str, *, follow: bool) -> LogReader[SealedRecord]:
    """Read the audit log's records about it, each verified. Raises NotVerified."""

    def open_log(stack: ExitStack, _: Directory) -> Look[SealedRecord]:
        context = stack.enter_context(open_context())
        following = events.Following(context.audit, context.log_key, machine=machine)
        return following.look

    return LogReader(machine, open_log, follow=follow)
