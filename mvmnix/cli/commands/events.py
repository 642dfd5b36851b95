"""`mvm events`, `mvm stats`: what happens to machines, by the audit log, and what they use, by the kernel."""

import json
from datetime import datetime
from typing import Final

import click

from mvmnix.api import MachineUsage, open_context, open_machine_store, put_in_order, read_events, usage_of
from mvmnix.cli.completers import any_machine, running_machine
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.options.quantities import Moment
from mvmnix.cli.output import TERMINAL, table

#: Events that are printed, unless asked for otherwise.
_LINES: Final = 20


@click.command()
@click.argument("machine", default="", shell_complete=any_machine)
@click.option(
    "--lines", "-n", type=click.IntRange(0), help="How many that were before. Default: 20, with --since all of them."
)
@click.option(
    "--since",
    type=Moment(),
    metavar="TIME",
    help="Only those from then on: 10m, '2 hours ago', yesterday, 2026-01-31, 2026-01-31T12:00Z.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on, until it is interrupted.")
def events(machine: str, lines: int | None, since: datetime | None, follow: bool) -> None:
    """Print what happened to machines, or to MACHINE, from the audit log: verified records, one line of JSON each.

    Starts, ends, pauses, commands (by the digest of their arguments), and refusals while a machine ran.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        last = _LINES if lines is None and since is None else lines
        for each in read_events(context, machine, last=last, since=since, follow=follow):
            value: dict[str, object] = json.loads(each.record.line)
            click.echo(json.dumps({"index": each.index} | value))


@click.command()
@click.argument("machines", nargs=-1, metavar="[MACHINE...]", shell_complete=running_machine)
@click.option(
    "--no-stream",
    is_flag=True,
    expose_value=False,
    help="Print it once, as always: `watch mvm stats` repeats it.",
)
@format_options()
def stats(machines: tuple[str, ...], output: OutputFormat) -> None:
    """Print what each running machine uses, or each MACHINE: its hypervisor's processes, its supervisor, its console.

    Times in milliseconds since the start, memory in KiB. The receipt has the sum at the end.
    """
    with open_machine_store(TERMINAL) as here:
        rows = [_row(it) for it in usage_of(here, machines)]
    used = ("PROCESSES", "THREADS", "CPU-MS", "RESIDENT-KIB", "SUPERVISOR-KIB", "CONSOLE-BYTES")
    shown = [tuple(map(str, row.values())) for row in rows]
    output.show("stats", rows, lambda: table(("ID", "NAME", "STATE", *used), shown))


def _row(it: MachineUsage) -> dict[str, object]:
    return {
        "id": it.entry.status.machine,
        "name": it.entry.status.name,
        "state": it.entry.state,
        "processes": it.used.processes,
        "threads": it.used.threads,
        "cpuMilliseconds": it.used.cpu_ms,
        "residentKiB": it.used.resident_kib,
        "supervisorResidentKiB": it.supervisor_kib,
        "consoleBytes": it.console_bytes,
    }
