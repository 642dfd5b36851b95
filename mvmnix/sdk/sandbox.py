"""A sandbox without a face: what starts, finds and ends machines, and what is asked of one, as steps."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Literal

from mvmnix.api.audit_check import read_events, read_receipt
from mvmnix.api.context import open_context
from mvmnix.api.frontend import SILENT
from mvmnix.api.launch import RunningMachine, StartOptions, start_machine
from mvmnix.api.machine_store import open_machine_store
from mvmnix.api.plans import find_plan
from mvmnix.audit.reading import SealedRecord
from mvmnix.launch.control.connection import ConnectionLostError
from mvmnix.launch.control.drivers import Steps, Wait
from mvmnix.launch.control.messages import Pause, Request, Resume, Stop
from mvmnix.launch.control.start_messages import Mode
from mvmnix.machines import registry
from mvmnix.machines.machine_dir import CONSOLE, LOCK
from mvmnix.machines.output_log import Missing, Output, OutputReader, Piece
from mvmnix.machines.receipt import Receipt
from mvmnix.machines.registry import MachineEntry
from mvmnix.machines.retention import Retention
from mvmnix.sdk.drive import work
from mvmnix.sdk.errors import InvalidArgument, NotFound, NotRunning, OutcomeUnknown
from mvmnix.sdk.machine import (
    AttachedMachine,
    Machine,
    OwnMachine,
    SandboxCaller,
    find_entry,
    request,
)
from mvmnix.sdk.preparation import (
    Preparation,
    Prepared,
    SandboxOptions,
    Source,
    plan_options,
    prepare_launch,
    prepare_run,
    source_of,
)
from mvmnix.sdk.results import LogPiece, MachineInfo
from mvmnix.system.private_dirs import Directory

#: Seconds between two looks at a log that is followed.
_FOLLOW = 0.1


def initialize() -> Steps[None]:
    """Make keys and a trust policy for this user, unless there is a policy. Raises RefusedError where one was lost."""
    yield from work(_initialize)


def _initialize() -> None:
    with open_context() as context:
        context.initialize()


def run(source: Source, name: str, options: SandboxOptions, *, private: bool, keep: bool) -> Steps[OwnMachine]:
    """Start a machine for a flake or a kept image, built first where need be. Raises as `launch` does."""
    wanted = plan_options(options)
    start = StartOptions(mode=Mode.HELD, name=name, private=private, retention=_retention(keep))

    def prepare(stack: ExitStack) -> Prepared:
        return prepare_run(source_of(source), wanted, stack)

    return (yield from _start(prepare, start))


def launch(
    plan: str | os.PathLike[str], name: str, *, image: str, vsa: str, private: bool, keep: bool
) -> Steps[OwnMachine]:
    """Start a machine from a signed plan. Raises SetupMissing, NotVerified, PolicyRefused, InvalidArgument."""
    start = StartOptions(mode=Mode.HELD, name=name, private=private, retention=_retention(keep), image=image, vsa=vsa)
    return (yield from _start(partial(prepare_launch, os.fspath(plan)), start))


def _retention(keep: bool) -> Retention:
    return Retention.ALWAYS if keep else Retention.LAST


def _start(prepare: Callable[[ExitStack], Prepared], options: StartOptions) -> Steps[OwnMachine]:
    preparation = Preparation()
    try:
        prepared = yield from work(partial(preparation.run, prepare))
        caller = SandboxCaller(prepared.context)
        running: RunningMachine = yield from start_machine(prepared.context, prepared.bundle, options, caller)
        caller.start_ended()
        return OwnMachine(running, caller, prepared.verbs, prepared.labels)
    finally:
        preparation.close()


def attach(text: str) -> Steps[AttachedMachine]:
    """Find a machine that runs, by its name or id. Raises NotFound, NotRunning at the first call."""
    return (yield from work(partial(_attached, text)))


def _attached(text: str) -> AttachedMachine:
    with open_context() as context:
        entry = find_entry(context.machines, text)
        plan = find_plan(context, entry.status.machine)
        return AttachedMachine(entry.status.machine, plan.verbs, entry.status.labels)


def list_machines(labels: Mapping[str, str], *, ended: bool) -> Steps[tuple[MachineInfo, ...]]:
    """Return this user's machines with these labels, the oldest first; those that have ended only if asked for."""
    return (yield from work(partial(_listed, dict(labels), ended)))


def _listed(labels: Mapping[str, str], ended: bool) -> tuple[MachineInfo, ...]:
    with open_machine_store(SILENT) as machines:
        entries = registry.list_entries(machines)
    return tuple(_info(entry) for entry in entries if (ended or entry.alive) and _has(entry, labels))


def _has(entry: MachineEntry, labels: Mapping[str, str]) -> bool:
    return labels.items() <= dict(entry.status.labels).items()


def _info(entry: MachineEntry) -> MachineInfo:
    status = entry.status
    return MachineInfo(status.machine, status.name, status.image, entry.state, status.labels, status.created)


def stop(machine: Machine, *, now: bool) -> Steps[None]:
    """End the machine, in order or at once, and wait for that; nothing happens where it has ended."""
    with suppress(NotRunning, OutcomeUnknown):  # its end is what was asked for
        yield from request(machine, Stop(now=now))
    with suppress(ConnectionLostError):  # its process was killed, and it with that
        yield from machine.wait(None)


def set_paused(machine: Machine, *, paused: bool) -> Steps[None]:
    """Pause or resume the guest. Raises InvalidArgument where it is so already."""
    message: Request = Pause() if paused else Resume()
    yield from request(machine, message)


def receipt(machine: Machine) -> Steps[Receipt]:
    """Return the host's signed receipt of a machine that has ended. Raises NotFound before its end, NotVerified."""
    return (yield from work(partial(_receipt, machine.id)))


def _receipt(machine: str) -> Receipt:
    with open_context() as context:
        find_entry(context.machines, machine)
        return read_receipt(context, machine)


def events(machine: Machine) -> Steps[tuple[SealedRecord, ...]]:
    """Return the audit log's verified records about the machine, the oldest first. Raises NotVerified."""
    return (yield from work(partial(_events, machine.id)))


def _events(machine: str) -> tuple[SealedRecord, ...]:
    with open_context() as context:
        return tuple(read_events(context, machine, last=None, follow=False))


def _piece(piece: Piece | Missing) -> LogPiece:
    match piece:
        case Missing(count):
            return LogPiece("stdout", b"", count)
        case Piece(Output.STDERR, data):
            return LogPiece("stderr", data)
        case Piece(_, data):
            return LogPiece("stdout", data)


class LogReader:
    """What is kept of a machine's output or console, piece by piece, with `follow` up to its end."""

    def __init__(self, machine: Machine, source: Literal["output", "console"], *, follow: bool) -> None:
        if source not in {"output", "console"}:
            raise InvalidArgument(f"a machine has no log named {source!r}", hint='"output" or "console"')
        self._machine = machine.id
        self._is_console = source == "console"
        self._follow = follow
        self._stack = ExitStack()
        self._directory: Directory | None = None
        self._read: Callable[[], Iterable[Piece | Missing]] = tuple
        self._pieces: Iterator[Piece | Missing] = iter(())
        self._is_last = False

    def next_piece(self) -> Steps[LogPiece | None]:
        """Return the next piece; None after the last one."""
        while True:
            if (piece := next(self._pieces, None)) is not None:
                return _piece(piece)
            if self._is_last:
                self.close()
                return None
            if self._directory is not None:
                yield Wait(seconds=_FOLLOW)
            self._pieces = iter((yield from work(self._look)))

    def _look(self) -> tuple[Piece | Missing, ...]:
        if self._directory is None:
            self._directory = self._open()
        self._is_last = not self._follow or self._directory.holder(LOCK) is None  # asked before the last look
        return tuple(self._read())

    def _open(self) -> Directory:
        machines = self._stack.enter_context(open_machine_store(SILENT))
        try:
            directory = self._stack.enter_context(machines.existing(find_entry(machines, self._machine).status.machine))
        except FileNotFoundError as error:
            hint = "Sandbox.list() has those that are left"
            raise NotFound(f"the machine {self._machine} was removed", hint=hint) from error
        if self._is_console:
            file = self._stack.enter_context(os.fdopen(directory.open_file(CONSOLE), "rb", buffering=0))
            self._read = lambda: (Piece(Output.STDOUT, data) for data in iter(lambda: file.read(65536), b""))
        else:
            self._read = self._stack.enter_context(closing(OutputReader(directory))).read
        return directory

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self._is_last = True
        self._stack.close()
