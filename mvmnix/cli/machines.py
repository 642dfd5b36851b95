"""`mvm ps`, `mvm stop`, `mvm logs`: what there is to say and do about machines, by the kernel's word."""

import sys

import click

from mvmnix.cli.house import House, house
from mvmnix.cli.telling import answer, escape, table
from mvmnix.launch import registry
from mvmnix.launch.host import now
from mvmnix.launch.registry import Entry, Log
from mvmnix.strict import show_time


def _tidied(rooms: House) -> None:
    """Write down the ends that nobody was left to write down."""
    if rooms.machines.names():
        registry.tidy(rooms.machines, rooms.journal, now)


@click.command()
@click.option("--all", "-a", "everything", is_flag=True, help="Machines that have ended too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(everything: bool, as_json: bool) -> None:
    """List machines: those that live, by the lock that their supervisor holds."""
    with house() as rooms:
        _tidied(rooms)
        shown = [entry for entry in registry.entries(rooms.machines) if everything or entry.alive]
    if as_json:
        answer("machines", [_record(entry) for entry in shown])
        return
    header = ("ID", "NAME", "IMAGE", "STATE", "ACCELERATOR", "CREATED", "ENDED", "EXIT")
    table(header, (tuple(map(str, _record(entry).values())) for entry in shown))


def _record(entry: Entry) -> dict[str, str | int]:
    status = entry.status
    return {
        "id": status.machine,
        "name": status.name,
        "image": status.image,
        "state": entry.state,
        "accelerator": status.acceleration,
        "created": show_time(status.created),
        "ended": str(status.reason or ""),
        "exitCode": "" if status.exit_code is None else status.exit_code,
    }


@click.command()
@click.argument("machine")
@click.option(
    "--patience", default=15.0, show_default=True, metavar="SECONDS", help="After that, its supervisor is killed."
)
def stop(machine: str, patience: float) -> None:
    """Stop MACHINE, by id or name: ask its guest, then end it."""
    with house() as rooms:
        entry = registry.stop(rooms.machines, machine, patience=patience)
        _tidied(rooms)
        click.echo(entry.status.machine)


@click.command()
@click.argument("machine")
@click.option("--console", "log", flag_value=Log.CONSOLE, default=Log.CONSOLE, help="The kernel's console (default).")
@click.option("--stdout", "log", flag_value=Log.STDOUT, help="What a detached machine's command printed.")
@click.option("--stderr", "log", flag_value=Log.STDERR, help="What it complained about.")
def logs(machine: str, log: Log) -> None:
    """Print what MACHINE said; escaped for a terminal, raw into a file or a pipe."""
    with house() as rooms:
        for chunk in registry.read_log(rooms.machines, machine, Log(log)):
            if sys.stdout.isatty():
                click.echo(escape(chunk.decode(errors="replace").replace("\r\n", "\n")), nl=False)
            else:
                sys.stdout.buffer.write(chunk)
