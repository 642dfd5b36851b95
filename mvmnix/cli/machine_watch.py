"""`mvm events`, `mvm stats`: what happens to machines, by the audit log, and what they use, by the kernel."""

import json
from collections.abc import Iterable

import click

from mvmnix.api.context import open_context
from mvmnix.api.machine_store import open_machine_store
from mvmnix.audit.reading import Listed
from mvmnix.cli.telling import TERMINAL, answer, table
from mvmnix.launch.records import consumption, happenings, registry
from mvmnix.launch.records.home import CONSOLE
from mvmnix.launch.records.registry import Entry


@click.command()
@click.argument("machine", default="")
@click.option("--lines", "-n", default=20, show_default=True, type=click.IntRange(0), help="How many that were before.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on, until it is interrupted.")
def events(machine: str, lines: int, follow: bool) -> None:
    """Print what happened to machines, or to MACHINE, from the audit log: verified records, one line of JSON each.

    Starts, ends, pauses, commands (by the digest of their arguments), and refusals while a machine ran.
    """
    with open_machine_store(TERMINAL) as here, open_context(TERMINAL) as rooms:
        wanted = registry.find(here, machine).status.machine if machine else None
        log, key = rooms.audit, rooms.log_key
        before = happenings.happenings(log, key, last=lines, machine=wanted)
        since = before[-1].index + 1 if before else happenings.end(log, key)
        _print(before)
        if follow:
            _print(happenings.follow(log, key, since=since, machine=wanted))


def _print(listed: Iterable[Listed]) -> None:
    for each in listed:
        value: dict[str, object] = json.loads(each.record.line)
        click.echo(json.dumps({"index": each.index} | value))


@click.command()
@click.argument("machines", nargs=-1, metavar="[MACHINE...]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(machines: tuple[str, ...], as_json: bool) -> None:
    """Print what each running machine uses, or each MACHINE: its hypervisor's processes, its supervisor, its console.

    Times in milliseconds since the start, memory in KiB. The receipt has the sum at the end.
    """
    with open_machine_store(TERMINAL) as here:
        named = [registry.find(here, text) for text in machines]
        living = [it for it in (named if machines else registry.entries(here)) if it.supervisor]
        rows = [
            _row(entry) | {"consoleBytes": registry.files(here, entry.status.machine).get(CONSOLE, 0)}
            for entry in living
        ]
    if as_json:
        answer("stats", rows)
        return
    used = ("PROCESSES", "THREADS", "CPU-MS", "RESIDENT-KIB", "SUPERVISOR-KIB", "CONSOLE-BYTES")
    table(("ID", "NAME", "STATE", *used), (tuple(map(str, row.values())) for row in rows))


def _row(entry: Entry) -> dict[str, object]:
    supervisor = entry.supervisor or 0
    used = consumption.by_descendants(supervisor)
    return {
        "id": entry.status.machine,
        "name": entry.status.name,
        "state": entry.state,
        "processes": used.processes,
        "threads": used.threads,
        "cpuMilliseconds": used.cpu_ms,
        "residentKiB": used.resident_kib,
        "supervisorResidentKiB": consumption.by_process(supervisor).resident_kib,
    }
