"""`mvm snapshot`, `cool`: takes snapshots of running machines, and looks after those that are kept.

Names of `api` are imported when they are first used: to take a snapshot needs few of them.
"""

from typing import TYPE_CHECKING

import click

from mvmnix import api
from mvmnix.cli.completers import file as archive_file
from mvmnix.cli.completers import running_machine
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.output import MIB, TERMINAL, answer, json_option, table
from mvmnix.formats.strict import show_time
from mvmnix.system.output_files import NewFile

if TYPE_CHECKING:
    from mvmnix.api import SnapshotClaim


@click.group()
def snapshot() -> None:
    """Keep running machines, sealed and signed: others go on from them, where the plan says so."""


@snapshot.command()
@click.argument("machine", shell_complete=running_machine)
def create(machine: str) -> None:
    """Take a snapshot of the running MACHINE, by id or name, which goes on; print the snapshot's id.

    Its commands stand still meanwhile. Its plan has to grant the verb: `mvm run --verb snapshot`.
    """
    with api.open_context(TERMINAL) as context:
        click.echo(api.create_snapshot(context.machines, machine).id)


@snapshot.command()
@format_options()
def ls(output: OutputFormat) -> None:
    """List the snapshots that are kept, the newest first. Nothing of what they say is verified before a restore."""
    with api.open_context(TERMINAL) as context:
        found = api.list_snapshots(context)
    columns = ("SNAPSHOT", "MACHINE", "IMAGE", "MADE", "SIZE MIB", "MACHINE ENDED")
    output.show("snapshots", [_record(claim) for claim in found], lambda: table(columns, [_row(it) for it in found]))


def _record(claim: "SnapshotClaim") -> dict[str, object]:
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


def _row(claim: "SnapshotClaim") -> tuple[str, ...]:
    size, ended = f"{claim.sealed_bytes / MIB:.0f}", "yes" if claim.ended_with else "no"
    return claim.id, claim.machine, claim.image, show_time(claim.created), size, ended


@snapshot.command()
@click.argument("snapshot", metavar="SNAPSHOT")
def inspect(snapshot: str) -> None:
    """Print what the statement of SNAPSHOT says, as JSON. Nothing of it is verified."""
    with api.open_context(TERMINAL) as context:
        answer("snapshot", api.inspect_snapshot(context, snapshot))


@snapshot.command()
@click.argument("snapshot", metavar="SNAPSHOT")
@json_option
def verify(snapshot: str, as_json: bool) -> None:
    """Verify SNAPSHOT and its plan as a restore does, its memory included; nothing is started.

    Says why it would be refused, with exit code 126.
    """
    with api.open_context(TERMINAL) as context:
        steps = api.verify_kept_snapshot(context, snapshot)
    if as_json:
        answer("verification", {"verified": True, "snapshot": snapshot, "steps": [step.record for step in steps]})
    else:
        click.echo(f"verified: snapshot {snapshot}, by {len(steps)} steps, and the memory that it is about")


@snapshot.command()
def recipient() -> None:
    """Print the public key to which others export snapshots for this host."""
    with api.open_context(TERMINAL) as context:
        click.echo(api.snapshot_recipient(context))


@snapshot.command()
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--to", required=True, metavar="KEY", help="What `mvm snapshot recipient` prints where it is to be used.")
@click.option("--out", "-o", required=True, type=OutputType(NewFile, "FILE"), help="The new file to write.")
def export(snapshot: str, to: str, out: NewFile) -> None:
    """Write SNAPSHOT to a new file, sealed to the KEY of another host; it is verified first.

    Under emulation only the host that made it, until that boots, can go on from it: as another user, for instance.
    """
    with api.open_context(TERMINAL) as context:
        api.export_snapshot(context, snapshot, to, out)


@snapshot.command(name="import")
@click.argument("file", metavar="FILE", shell_complete=archive_file)
def import_(file: str) -> None:
    """Keep the snapshot in FILE, which was exported to this host, where the trust policy takes it; print its id.

    Its image has to be here: `mvm image load`.
    """
    with api.open_context(TERMINAL) as context:
        click.echo(api.import_snapshot(context, file))


@snapshot.command()
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT...")
def rm(snapshots: tuple[str, ...]) -> None:
    """Remove each SNAPSHOT, by its id, its key first. Machines that went on from it stay. Prints its id."""
    with api.open_context(TERMINAL) as context:
        for each in api.remove_snapshots(context, snapshots):
            click.echo(each)


@snapshot.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@format_options()
def prune(output: OutputFormat, *, dry_run: bool) -> None:
    """Remove the snapshots from which no machine goes on any more, and say why.

    The host has booted since, the trust policy is another one or takes none that old, or the plan has expired. Damaged
    ones stay.
    """
    with api.open_context(TERMINAL) as context:
        found = api.prune_snapshots(context, remove=not dry_run)
    records = [_record(it.claim) | {"why": it.why, "removed": not dry_run} for it in found]
    rows = [(*_row(it.claim)[:4], it.why) for it in found]
    output.show("snapshots", records, lambda: table(("SNAPSHOT", "MACHINE", "IMAGE", "MADE", "WHY"), rows))


@click.command()
@click.argument("machine", shell_complete=running_machine)
def cool(machine: str) -> None:
    """Take a snapshot of the running MACHINE, by id or name, and end it; print the snapshot's id once it has ended.

    It holds no memory then: `mvm ps` lists it as cold. `mvm thaw MACHINE` starts one that goes on from there.
    """
    with api.open_context(TERMINAL) as context:
        click.echo(api.cool_machine(context.machines, machine, context.policy.digest).id)
