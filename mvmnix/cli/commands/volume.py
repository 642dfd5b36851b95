"""`mvm volume`: the data disks and shared directories of running machines, as their plans say."""

from collections.abc import Iterator
from typing import Final, override

import click

from mvmnix.api import MachineEntry, Plan, find_machine, find_plan, list_entries, open_context
from mvmnix.cli.completers import running_machine
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.output import TERMINAL, table
from mvmnix.errors import UsageError

#: Subcommands of podman-volume(1) that mvm lacks: nothing of a machine's disk outlives the machine.
_ABSENT: Final = {
    **dict.fromkeys(("create", "import", "mount"), "a disk is made with its machine: `mvm run --data 1g:/srv`"),
    **dict.fromkeys(("rm", "prune", "unmount"), "a data disk is gone when its machine ends: `mvm stop MACHINE`"),
    **dict.fromkeys(("export",), "`mvm cp MACHINE:PATH -` prints a tar stream"),
    **dict.fromkeys(("inspect",), "`mvm volume ls --json MACHINE`"),
}


class _VolumeGroup(click.Group):
    """The group; it answers what podman has besides."""

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does. Raises UsageError, with what there is instead, for a command of podman's."""
        if args[0] in _ABSENT:
            raise UsageError(f"there is no command {ctx.command_path} {args[0]}", hint=_ABSENT[args[0]])
        return super().resolve_command(ctx, args)


@click.group(cls=_VolumeGroup)
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
