"""`mvm snapshot`, `cool`, `restore`: keeps running machines, and starts others that go on from them."""

import click

from mvmnix.api import (
    SnapshotClaim,
    StartOptions,
    create_snapshot,
    list_snapshots,
    open_context,
    put_in_order,
    remove_snapshots,
    restore_snapshot,
)
from mvmnix.cli.completers import running_machine
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.output import MIB, TERMINAL, table
from mvmnix.formats.strict import show_time


@click.group()
def snapshot() -> None:
    """Keep running machines, sealed and signed: others go on from them, where the plan says so."""


@snapshot.command()
@click.argument("machine", shell_complete=running_machine)
def create(machine: str) -> None:
    """Take a snapshot of the running MACHINE, by id or name, which goes on; print the snapshot's id.

    Its commands stand still meanwhile. Its plan has to grant the verb: `mvm run --verb snapshot`.
    """
    with open_context(TERMINAL) as context:
        click.echo(create_snapshot(context, machine).id)


@snapshot.command()
@format_options()
def ls(output: OutputFormat) -> None:
    """List the snapshots that are kept, the newest first. Nothing of what they say is verified before a restore."""
    with open_context(TERMINAL) as context:
        found = list_snapshots(context)
    columns = ("SNAPSHOT", "MACHINE", "IMAGE", "MADE", "SIZE MIB", "MACHINE ENDED")
    output.show("snapshots", [_record(claim) for claim in found], lambda: table(columns, [_row(it) for it in found]))


def _record(claim: SnapshotClaim) -> dict[str, object]:
    return {
        "id": claim.id,
        "machine": claim.machine,
        "image": claim.image,
        "created": show_time(claim.created),
        "size": claim.sealed_bytes,
        "machineEnded": claim.ended_with,
        "parent": claim.parent,
        "plan": str(claim.plan),
    }


def _row(claim: SnapshotClaim) -> tuple[str, ...]:
    size, ended = f"{claim.sealed_bytes / MIB:.0f}", "yes" if claim.ended_with else "no"
    return claim.id, claim.machine, claim.image, show_time(claim.created), size, ended


@snapshot.command()
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT...")
def rm(snapshots: tuple[str, ...]) -> None:
    """Remove each SNAPSHOT, by its id, its key first. Machines that went on from it stay. Prints its id."""
    with open_context(TERMINAL) as context:
        for each in remove_snapshots(context, snapshots):
            click.echo(each)


@click.command()
@click.argument("machine", shell_complete=running_machine)
def cool(machine: str) -> None:
    """Take a snapshot of the running MACHINE, by id or name, and end it; print the snapshot's id.

    It holds no memory then. `mvm restore` starts a machine that goes on from there.
    """
    with open_context(TERMINAL) as context:
        click.echo(create_snapshot(context, machine, ends=True).id)


@click.command()
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--name", default="", help="A name for the machine. Default: two random words.")
def restore(snapshot: str, name: str) -> None:
    """Start a machine that goes on from SNAPSHOT, in the background, and print its id.

    Snapshot and plan pass the gate anew: the plan's window, today's policy and what is revoked count.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        click.echo(restore_snapshot(context, snapshot, StartOptions(name=name)))
