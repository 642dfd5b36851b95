"""`mvm snapshot`, `cool`, `thaw`, `restore`, `fork`: keeps running machines, and starts others that go on from them."""

import click

from mvmnix.api import (
    MOST_FORKS,
    SnapshotClaim,
    StartOptions,
    cool_machine,
    create_snapshot,
    export_snapshot,
    fork_machine,
    import_snapshot,
    inspect_snapshot,
    list_snapshots,
    open_context,
    prune_snapshots,
    put_in_order,
    remove_snapshots,
    restore_snapshot,
    snapshot_recipient,
    thaw_machine,
    verify_kept_snapshot,
)
from mvmnix.cli.completers import ended_machine, running_machine
from mvmnix.cli.completers import file as archive_file
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.output import MIB, TERMINAL, answer, json_option, table, tell
from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import show_time
from mvmnix.system.output_files import NewFile


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
@click.argument("snapshot", metavar="SNAPSHOT")
def inspect(snapshot: str) -> None:
    """Print what the statement of SNAPSHOT says, as JSON. Nothing of it is verified."""
    with open_context(TERMINAL) as context:
        answer("snapshot", inspect_snapshot(context, snapshot))


@snapshot.command()
@click.argument("snapshot", metavar="SNAPSHOT")
@json_option
def verify(snapshot: str, as_json: bool) -> None:
    """Verify SNAPSHOT and its plan as a restore does, its memory included; nothing is started.

    Says why it would be refused, with exit code 126.
    """
    with open_context(TERMINAL) as context:
        steps = verify_kept_snapshot(context, snapshot)
    if as_json:
        answer("verification", {"verified": True, "snapshot": snapshot, "steps": [step.record for step in steps]})
    else:
        click.echo(f"verified: snapshot {snapshot}, by {len(steps)} steps, and the memory that it is about")


@snapshot.command()
def recipient() -> None:
    """Print the public key to which others export snapshots for this host."""
    with open_context(TERMINAL) as context:
        click.echo(snapshot_recipient(context))


@snapshot.command()
@click.argument("snapshot", metavar="SNAPSHOT")
@click.option("--to", required=True, metavar="KEY", help="What `mvm snapshot recipient` prints where it is to be used.")
@click.option("--out", "-o", required=True, type=OutputType(NewFile, "FILE"), help="The new file to write.")
def export(snapshot: str, to: str, out: NewFile) -> None:
    """Write SNAPSHOT to a new file, sealed to the KEY of another host; it is verified first.

    Under emulation only the host that made it, until that boots, can go on from it: as another user, for instance.
    """
    with open_context(TERMINAL) as context:
        export_snapshot(context, snapshot, to, out)


@snapshot.command(name="import")
@click.argument("file", metavar="FILE", shell_complete=archive_file)
def import_(file: str) -> None:
    """Keep the snapshot in FILE, which was exported to this host, where the trust policy takes it; print its id.

    Its image has to be here: `mvm image load`.
    """
    with open_context(TERMINAL) as context:
        click.echo(import_snapshot(context, file))


@snapshot.command()
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT...")
def rm(snapshots: tuple[str, ...]) -> None:
    """Remove each SNAPSHOT, by its id, its key first. Machines that went on from it stay. Prints its id."""
    with open_context(TERMINAL) as context:
        for each in remove_snapshots(context, snapshots):
            click.echo(each)


@snapshot.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@format_options()
def prune(output: OutputFormat, *, dry_run: bool) -> None:
    """Remove the snapshots from which no machine goes on any more, and say why.

    The host has booted since, the trust policy is another one or takes none that old, or the plan has expired. Damaged
    ones stay.
    """
    with open_context(TERMINAL) as context:
        found = prune_snapshots(context, remove=not dry_run)
    records = [_record(it.claim) | {"why": it.why, "removed": not dry_run} for it in found]
    rows = [(*_row(it.claim)[:4], it.why) for it in found]
    output.show("snapshots", records, lambda: table(("SNAPSHOT", "MACHINE", "IMAGE", "MADE", "WHY"), rows))


@click.command()
@click.argument("machine", shell_complete=running_machine)
def cool(machine: str) -> None:
    """Take a snapshot of the running MACHINE, by id or name, and end it; print the snapshot's id once it has ended.

    It holds no memory then: `mvm ps` lists it as cold. `mvm thaw MACHINE` starts one that goes on from there.
    """
    with open_context(TERMINAL) as context:
        click.echo(cool_machine(context, machine).id)


@click.command()
@click.argument("machine", shell_complete=ended_machine)
@click.option("--name", default="", help="A name for the machine. Default: the one that it had.")
def thaw(machine: str, name: str) -> None:
    """Start a machine that goes on from where MACHINE was cooled, in the background, and print its id.

    It is `mvm restore` of the snapshot that MACHINE ended with, which is kept.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        click.echo(thaw_machine(context, machine, StartOptions(name=name)))


@click.command()
@click.argument("machine", shell_complete=running_machine)
@click.option("-n", "count", type=click.IntRange(1, MOST_FORKS), default=1, show_default=True, help="How many.")
def fork(machine: str, count: int) -> int:
    """Start machines that go on from where the running MACHINE is, which goes on, too. Prints the id of each.

    Each passes the gate, is logged and has entropy of its own. Where some don't start, the exit code is that of the
    first.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        outcomes = fork_machine(context, machine, count)
    codes = list[int]()
    for each in outcomes:
        if isinstance(each, MvmnixError):
            codes.append(tell(each))
        else:
            click.echo(each)
    return codes[0] if codes else 0


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
