"""A sandbox without a face: what starts, finds and ends machines, and what is asked of one, as steps."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial

from mvmnix.api.audit_check import read_receipt
from mvmnix.api.context import open_context
from mvmnix.api.frontend import SILENT
from mvmnix.api.launch import RunningMachine, StartOptions, start_machine
from mvmnix.api.machine_store import list_machines as list_entries
from mvmnix.api.machine_store import open_machine_store
from mvmnix.api.plans import find_plan
from mvmnix.launch.control.connection import ConnectionLostError
from mvmnix.launch.control.drivers import Steps
from mvmnix.launch.control.messages import Extend, Pause, Request, Resume, Stop
from mvmnix.launch.control.start_messages import Mode
from mvmnix.machines import registry
from mvmnix.machines.receipt import Receipt
from mvmnix.machines.registry import MachineEntry
from mvmnix.machines.retention import Retention
from mvmnix.plan.secret_reference import SecretTarget
from mvmnix.sdk.arguments import seconds
from mvmnix.sdk.drive import WorkerStack, work
from mvmnix.sdk.errors import InvalidArgument, NotRunning, OutcomeUnknown
from mvmnix.sdk.machine import (
    AttachedMachine,
    Machine,
    OwnMachine,
    SandboxCaller,
    find_entry,
    request,
)
from mvmnix.sdk.preparation import (
    Prepared,
    SandboxOptions,
    Source,
    plan_options,
    prepare_launch,
    prepare_source,
    source_of,
)
from mvmnix.sdk.results import MachineInfo


def initialize() -> Steps[None]:
    """Make keys and a trust policy for this user, unless there is a policy. Raises RefusedError where one was lost."""
    yield from work(_initialize)


def _initialize() -> None:
    with open_context() as context:
        context.initialize()


def run(source: Source, name: str, options: SandboxOptions, *, private: bool, keep: bool) -> Steps[OwnMachine]:
    """Start a machine for a flake or a kept image, built first where need be. Raises as `launch` does."""
    wanted = plan_options(options)
    if named := [each.name for each in wanted.secrets if each.target is SecretTarget.VARIABLE]:
        why = f"{', '.join(named)}: a secret is a variable of the plan's own command alone, which a sandbox doesn't run"
        raise InvalidArgument(why, hint='Secret.env("TOKEN"): commands find it in /run/secrets/TOKEN')
    start = StartOptions(mode=Mode.HELD, name=name, private=private, retention=retention(keep=keep))

    def prepare(stack: ExitStack) -> Prepared:
        return prepare_source(source_of(source), wanted, stack)

    return (yield from start_prepared(prepare, start))


def launch(
    plan: str | os.PathLike[str], name: str, *, image: str, vsa: str, private: bool, keep: bool
) -> Steps[OwnMachine]:
    """Start a machine from a signed plan. Raises SetupMissing, NotVerified, PolicyRefused, InvalidArgument."""
    start = StartOptions(
        mode=Mode.HELD, name=name, private=private, retention=retention(keep=keep), image=image, vsa=vsa
    )
    return (yield from start_prepared(partial(prepare_launch, os.fspath(plan)), start))


def retention(*, keep: bool) -> Retention:
    """Return how long what is written about a program's machine is kept after its end."""
    return Retention.ALWAYS if keep else Retention.LAST


def start_prepared(prepare: Callable[[ExitStack], Prepared], options: StartOptions) -> Steps[OwnMachine]:
    """Start a machine from a plan that `prepare` finds or signs in a worker; it is this program's."""
    opened = WorkerStack()
    try:
        prepared = yield from work(partial(opened.run, prepare))
        caller = SandboxCaller(prepared.context)
        running: RunningMachine = yield from start_machine(prepared.context, prepared.bundle, options, caller)
        caller.start_ended()
        return OwnMachine(running, caller, prepared.verbs, prepared.labels)
    finally:
        opened.close()


def attach(text: str) -> Steps[AttachedMachine]:
    """Find a machine that runs, by its name or id. Raises NotFound, NotRunning at the first call."""
    return (yield from work(partial(_find_running, text)))


def _find_running(text: str) -> AttachedMachine:
    with open_context() as context:
        entry = find_entry(context.machines, text)
        plan = find_plan(context, entry.status.machine)
        return AttachedMachine(entry.status.machine, plan.verbs, entry.status.labels)


def list_machines(labels: Mapping[str, str], *, ended: bool) -> Steps[tuple[MachineInfo, ...]]:
    """Return this user's machines with these labels, the oldest first; those that have ended only if asked for."""
    return (yield from work(partial(_list_machines, dict(labels), ended)))


def _list_machines(labels: Mapping[str, str], ended: bool) -> tuple[MachineInfo, ...]:
    with open_machine_store(SILENT) as machines:
        entries = list_entries(machines, SILENT, ended=True) if ended else registry.list_entries(machines)
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


def extend(machine: Machine, within: float) -> Steps[None]:
    """Have the machine end in so many seconds. Raises InvalidArgument where its plan ends it before."""
    if (whole := seconds(within, "seconds")) is not None:
        yield from request(machine, Extend(whole))


def receipt(machine: Machine) -> Steps[Receipt]:
    """Return the host's signed receipt of a machine that has ended. Raises NotFound before its end, NotVerified."""
    return (yield from work(partial(_receipt, machine.id)))


def _receipt(machine: str) -> Receipt:
    with open_context() as context:
        find_entry(context.machines, machine)
        return read_receipt(context, machine)
