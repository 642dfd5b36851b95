"""Stops, kills, removes, pauses and resumes machines, and says what running ones use."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mvmnix.api.calls import change
from mvmnix.api.frontend import SILENT, Frontend
from mvmnix.api.machine_store import open_machine_store, with_snapshots
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.launch.control.messages import Pause, Resume, Stop
from mvmnix.machines import registry, usage
from mvmnix.machines.machine_dir import CONSOLE
from mvmnix.machines.registry import MachineEntry
from mvmnix.machines.usage import ProcessUsage
from mvmnix.system.private_dirs import Directory
from mvmnix.words import Words, check_words


def stop_machines(names: Words, frontend: Frontend = SILENT, *, patience: float = 15.0) -> Iterator[str]:
    """Stop the machines with these ids or names: ask each guest, and end it after so many seconds; yields each id.

    Raises UsageError, before any is stopped, where there is no such machine.
    """
    names = check_words(names)
    with open_machine_store(frontend) as machines:
        for machine in _ids(machines, names):
            _end(machines, machine, Stop(), frontend, patience)
            _write_down_ends(frontend)
            yield machine


def kill_machines(names: Words, frontend: Frontend = SILENT) -> Iterator[str]:
    """End these machines without asking their guests; yields each id. Raises as `stop_machines` does."""
    names = check_words(names)
    with open_machine_store(frontend) as machines:
        for machine in _ids(machines, names):
            _end(machines, machine, Stop(now=True), frontend)
            _write_down_ends(frontend)
            yield machine


def remove_machines(names: Words, frontend: Frontend = SILENT, *, force: bool = False) -> Iterator[str]:
    """Remove these machines, once they have ended; with `force` those that run are killed first. Yields each id.

    Snapshots stay; that of a cold machine is told. Raises as `stop_machines` does, and UsageError for one that runs.
    """
    names = check_words(names)
    with open_machine_store(frontend) as machines:
        for entry in with_snapshots(machines, [registry.find_machine(machines, text) for text in names]):
            machine, is_killed = entry.status.machine, force and entry.alive
            if is_killed:
                _end(machines, machine, Stop(now=True), frontend)
                _write_down_ends(frontend)
            try:
                registry.remove(machines, machine)
            except UsageError:
                if not is_killed or machines.exists(machine):
                    raise  # otherwise its supervisor removed it, as --rm says
            if entry.snapshot:
                restoration, removal = (
                    shell_command("mvm", *it, entry.snapshot) for it in (["restore"], ["snapshot", "rm"])
                )
                frontend.notice(
                    f"the snapshot of the machine {machine} stays: {restoration} has it go on, {removal} removes it"
                )
            yield machine


def change_machines(names: Words, asked: Pause | Resume, frontend: Frontend = SILENT) -> Iterator[str]:
    """Pause or resume these machines; yields each id once it stands still, or goes on."""
    names = check_words(names)
    with open_machine_store(frontend) as machines:
        for machine in _ids(machines, names):
            change(machines, machine, asked)
            yield machine


@dataclass(frozen=True, slots=True)
class MachineUsage:
    """What a running machine uses: its hypervisor's processes, its supervisor's memory in KiB, bytes on its console."""

    entry: MachineEntry
    used: ProcessUsage
    supervisor_kib: int
    console_bytes: int


def usage_of(machines: Directory, names: Words) -> tuple[MachineUsage, ...]:
    """What those of these machines use that run, or all that run where none is named."""
    named = [registry.find_machine(machines, text) for text in check_words(names)]
    running = (entry for entry in named or registry.list_entries(machines) if entry.supervisor)
    return tuple(_usage(machines, entry, entry.supervisor or 0) for entry in running)


def _usage(machines: Directory, entry: MachineEntry, supervisor: int) -> MachineUsage:
    return MachineUsage(
        entry,
        usage.by_descendants(supervisor),
        usage.by_process(supervisor).resident_kib,
        registry.machine_files(machines, entry.status.machine).get(CONSOLE, 0),
    )


def _end(machines: Directory, machine: str, request: Stop, frontend: Frontend, patience: float = 5.0) -> None:
    """Have a machine's supervisor end it; the supervisor is ended where it doesn't in so many seconds.

    One that accepts no calls, as a builder VM's doesn't, is told by a signal. Of one that waits in a pool it is said
    what becomes of the pool. Raises UsageError for one that doesn't run.
    """
    entry = registry.find_machine(machines, machine)
    if entry.supervisor is None:
        raise UsageError(f"the machine {machine!r} isn't running", hint="mvm ps lists the running ones")
    if entry.is_pooled:
        removal = registry.pool_removal(entry.status.image)
        frontend.notice(f"the machine {machine} waits in a pool, which has another take its place until {removal}")
    began = time.monotonic()
    try:
        change(machines, machine, request, seconds=patience)
    except MvmnixError:
        left = max(0.0, patience - (time.monotonic() - began))
        if registry.find_machine(machines, machine).alive:
            (registry.kill if request.now else registry.stop)(machines, machine, patience=left)


def _ids(machines: Directory, names: Iterable[str]) -> list[str]:
    return [registry.find_machine(machines, text).status.machine for text in names]


def _write_down_ends(frontend: Frontend) -> None:
    """Have the end written down of a machine whose supervisor had to be killed."""
    with open_machine_store(frontend):
        pass
