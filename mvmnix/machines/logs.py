"""Reads what is kept of a machine's output and of its kernel's console, as the raw, untrusted bytes that came."""

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from io import FileIO
from typing import Final

from mvmnix.errors import UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.machines import registry
from mvmnix.machines.machine_dir import CONSOLE, LOCK
from mvmnix.machines.network_log import LoggedEvent, MissingEvents, NetworkLogReader, has_network_log
from mvmnix.machines.output_log import Missing, Output, OutputReader, Piece
from mvmnix.system.private_dirs import Directory

_CHUNK: Final = 65536
#: Seconds between two looks at a log that is followed.
_FOLLOW: Final = 0.1


def read_output(
    machines: Directory,
    text: str,
    outputs: Collection[Output] = tuple(Output),
    *,
    follow: bool = False,
    lines: int | None = None,
) -> Iterator[Piece | Missing]:
    """What the command of the machine with this name or id printed to these outputs, in the order in which it came.

    As it is now; or, with `follow`, what is added too, until the machine has ended. Of what is there already the last
    `lines` alone, if that is given. Raises UsageError where nothing is kept, MvmnixError for a broken log.
    """
    machine = registry.find_machine(machines, text).status.machine
    with machines.existing(machine) as directory, closing(OutputReader(directory)) as reader:
        if not _has_begun(directory, lambda: reader.has_begun, follow=follow):
            why = "its command has not begun, or nothing is kept of it (mvm logs --help says of which)"
            raise UsageError(
                f"the machine {text!r} has no output: {why}",
                hint=f"its kernel's console: {shell_command('mvm', 'logs', '--console', text)}",
            )

        def read() -> Iterator[Piece | Missing]:
            return (it for it in reader.read() if isinstance(it, Missing) or it.output in outputs)

        yield from _last(read(), lines)
        yield from _added(directory, read, follow=follow)


def read_console(
    machines: Directory, text: str, *, follow: bool = False, lines: int | None = None
) -> Iterator[Piece | Missing]:
    """What the kernel of a machine said on its console, as `read_output` gives a standard output."""
    machine = registry.find_machine(machines, text).status.machine
    with machines.existing(machine) as directory:
        if not _has_begun(directory, lambda: directory.exists(CONSOLE), follow=follow):
            raise UsageError(
                f"the machine {text!r} has no console, for it was not started", hint=shell_command("mvm", "start", text)
            )
        with os.fdopen(directory.open_file(CONSOLE), "rb", buffering=0) as file:
            yield from _last(_pieces(file), lines)
            yield from _added(directory, lambda: _pieces(file), follow=follow)


def read_network_log(machines: Directory, text: str, *, follow: bool = False) -> Iterator[LoggedEvent | MissingEvents]:
    """The verdicts about the network of the machine with this name or id, the oldest that is kept first.

    With `follow`, what is added too, until the machine has ended. Raises UsageError where nothing is kept, MvmnixError
    for a broken log.
    """
    machine = registry.find_machine(machines, text).status.machine
    with machines.existing(machine) as directory, closing(NetworkLogReader(directory)) as reader:
        if not _has_begun(directory, lambda: has_network_log(directory), follow=follow):
            why = "it has no network, or was not started, or the log is gone"
            hint = shell_command("mvm", "net", "show", text)
            raise UsageError(f"the machine {text!r} has no network log: {why}", hint=hint)
        yield from reader.read()
        yield from _added(directory, reader.read, follow=follow)


def _has_begun(directory: Directory, is_there: Callable[[], bool], *, follow: bool) -> bool:
    """Whether a log is there; with `follow`, once it is, or the machine has ended."""
    while not is_there():
        if not follow or directory.holder(LOCK) is None:
            return is_there()
        time.sleep(_FOLLOW)
    return True


def _added[T](directory: Directory, read: Callable[[], Iterable[T]], *, follow: bool) -> Iterator[T]:
    """With `follow`, what is added to a log, until the machine has ended."""
    alive = follow
    while alive:
        time.sleep(_FOLLOW)
        alive = directory.holder(LOCK) is not None  # asked before the last look
        yield from read()


def _pieces(file: FileIO) -> Iterator[Piece]:
    while chunk := file.read(_CHUNK):
        yield Piece(Output.STDOUT, chunk)


def _last(pieces: Iterable[Piece | Missing], lines: int | None) -> Iterator[Piece | Missing]:
    """The last so many lines, all for None; what was printed without a line break between them is a line."""
    if lines is None:
        yield from pieces
        return
    found = deque[tuple[Output, bytearray]](maxlen=lines)
    for piece in (it for it in pieces if isinstance(it, Piece)):
        for part in piece.data.splitlines(keepends=True):
            if found and found[-1][0] is piece.output and not found[-1][1].endswith(b"\n"):
                found[-1][1].extend(part)
            else:
                found.append((piece.output, bytearray(part)))
    yield from (Piece(output, bytes(line)) for output, line in found)
