"""Has machines started that go on from snapshots; each is verified by the process that starts it, and not here."""

from contextlib import suppress
from dataclasses import replace
from typing import Final

from mvmnix.api.calls import create_snapshot
from mvmnix.api.context import Context
from mvmnix.api.launch import StartOptions, start_machine
from mvmnix.api.machine_store import with_snapshots
from mvmnix.api.snapshot_store import open_snapshots, read_ends
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.launch.control.drivers import Steps, run, together
from mvmnix.machines import registry
from mvmnix.machines.registry import MachineEntry
from mvmnix.machines.status import is_id

#: Machines that one fork starts, at most: each has its plan's memory.
MOST_FORKS: Final = 64
#: Of these so many start beside each other: more than there may be processors, for each waits in between.
FORKS_AT_ONCE: Final = 4


def restore_snapshot(context: Context, snapshot: str, options: StartOptions) -> str:
    """Start a machine that goes on from a snapshot, without this process; return its id.

    Raises UsageError where there is none, RefusedError, which is in the log; MvmnixError.
    """
    with open_snapshots(context).open(snapshot) as kept:
        return run(start_machine(context, kept.plan, replace(options, snapshot=snapshot))).id


def thaw_machine(context: Context, machine: str, options: StartOptions) -> str:
    """Start a machine that goes on from where this one was cooled, under its name; return the new one's id.

    Of several with one name the cold one is meant. Raises UsageError for a machine that runs or wasn't cooled, or whose
    snapshot is gone; what `restore_snapshot` raises.
    """
    snapshots = open_snapshots(context)
    if is_id(machine) and snapshots.has(machine):
        hint = shell_command("mvm", "restore", machine)
        raise UsageError(f"{machine} is the id of a snapshot, not of a machine", hint=hint)
    status = _find_cooled(context, machine).status
    claim = read_ends(snapshots).get(status.machine)
    if claim is None:
        raise UsageError(f"nothing is kept of the machine {machine!r} to go on from", hint="mvm snapshot ls")
    return restore_snapshot(context, claim.id, replace(options, name=options.name or status.name))


def _find_cooled(context: Context, machine: str) -> MachineEntry:
    """The machine that was cooled: one that runs may have its name, or one that went on in the same second."""
    found = registry.find_machine(context.machines, machine)
    if machine == found.status.name:
        namesakes = [it for it in registry.list_entries(context.machines) if it.status.name == machine]
        cold = [it for it in with_snapshots(context.machines, namesakes) if it.snapshot]
        if cold and found.alive:
            hint = shell_command("mvm", "thaw", cold[-1].status.machine, "--name", f"{machine}-2")
            raise UsageError(f"a running machine has the name {machine!r} of the cold one", hint=hint)
        found = cold[-1] if cold else found
    if found.alive:
        raise UsageError(f"the machine {machine!r} is running", hint="mvm ps lists the cold ones")
    return found


def fork_machine(context: Context, machine: str, count: int) -> tuple[str | MvmnixError, ...]:
    """Start `count` machines that go on from where a running one is, which goes on, too.

    Returns the id of each, or why it didn't start. The snapshot that they begin as is removed. Raises as
    `create_snapshot` does.
    """
    snapshot = create_snapshot(context.machines, machine).id
    try:
        return run(together([_forked(context, snapshot) for _ in range(count)], FORKS_AT_ONCE))
    finally:
        with suppress(UsageError):  # another process has removed it
            open_snapshots(context).remove(snapshot)


def _forked(context: Context, snapshot: str) -> Steps[str | MvmnixError]:
    try:
        with open_snapshots(context).open(snapshot) as kept:
            return (yield from start_machine(context, kept.plan, StartOptions(snapshot=snapshot))).id
    except MvmnixError as error:
        return error
