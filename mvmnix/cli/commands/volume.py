"""`mvm volume`: the data disks and shared directories of running machines, as their plans say."""

from collections.abc import Iterator

import click

from mvmnix.api import MachineEntry, Plan, find_machine, find_plan, list_entries, open_context
from mvmnix.cli.completers import running_machine
from mvmnix.cli.option_hints import HintingGroup
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.output import TERMINAL, table


@click.group(cls=HintingGroup)
def volume() -> None:
    """List the data disks and shared directories of machines; there are no named volumes."""


@volume.command("ls")
@click.argument("machines", nargs=-1, metavar="[MACHINE...]", shell_complete=running_machine)
@format_options()
def list_(machines: tuple[str, ...], output: OutputFormat) -> None:
    """List data disks and shared directories of running machines, or of each MACHINE, as their plans say."""
    with open_context(TERMINAL) as context:
        named = [find_machine(context.machines, text) for text in machines]
        entries = named or [entry for entry in list_entries(context.machines) if entry.alive]
        found = [it for entry in entries for it in _volumes(entry, find_plan(context, entry.status.machine))]
    rows = [tuple("" if value is None else str(value) for value in it.values()) for it in found]
    output.show("volumes", found, lambda: table(("MACHINE", "NAME", "KIND", "GUEST", "HOST", "MIB", "ACCESS"), rows))


def _volumes(entry: MachineEntry, plan: Plan) -> Iterator[dict[str, object]]:
    machine = {"machine": entry.status.machine, "name": entry.status.name}
    if plan.data is not None:
        yield machine | {
            "kind": "data",
            "guest": plan.data.path,
            "host": None,
            "sizeMiB": plan.data.size_mib,
            "access": "rw",
        }
    for it in plan.shares:
        access = "rw" if it.writable else "ro"
        yield machine | {"kind": "share", "guest": it.guest, "host": it.host, "sizeMiB": None, "access": access}
