"""`mvm ps`, `inspect`, `wait`: what there is to say about machines, by the kernel's word."""

from typing import Final

import click

from mvmnix.api import (
    Filter,
    MachineEntry,
    filter_machines,
    find_machine,
    inspect_machine,
    list_machines,
    machine_files,
    open_machine_store,
    wait_for_end,
    with_verified_ends,
)
from mvmnix.cli.completers import any_machine
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.output import TERMINAL, answer, table
from mvmnix.errors import UsageError
from mvmnix.formats.strict import show_time


@click.command()
@click.option("--all", "-a", "everything", is_flag=True, help="Machines that have ended too.")
@click.option(
    "--filter",
    "-f",
    "wanted",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only those: id, name, image, state, ended, label=NAME or label=NAME=VALUE. May be repeated.",
)
@format_options(ids=True)
def ps(everything: bool, wanted: tuple[str, ...], output: OutputFormat) -> None:
    """List machines: those that live, by the lock that their supervisor holds, and those that are cold.

    A cold one was cooled (`mvm cool`): it holds no memory, and `mvm thaw` has it go on.
    """
    try:
        chosen = [Filter.parse(text) for text in wanted]
    except ValueError as error:
        raise UsageError(str(error), hint="mvm ps --filter label=tier=web") from error
    with open_machine_store(TERMINAL) as here:
        listed = list_machines(here, TERMINAL, ended=everything)
    shown = filter_machines(listed, chosen)
    rows = [tuple("" if it is None else str(it) for it in _record(entry).values()) for entry in shown]
    records = [_record(entry) | {"labels": dict(entry.status.labels)} for entry in shown]
    output.show("machines", records, lambda: table(_HEADER, rows))


_HEADER: Final = ("ID", "NAME", "IMAGE", "STATE", "ACCELERATOR", "CREATED", "ENDED", "EXIT")


def _record(entry: MachineEntry) -> dict[str, object]:
    status = entry.status
    return {
        "id": status.machine,
        "name": status.name,
        "image": status.image,
        "state": entry.state,
        "accelerator": status.acceleration,
        "created": show_time(status.created),
        "ended": entry.ended,
        "exitCode": entry.exit_code,
    }


@click.command()
@click.argument("machine", shell_complete=any_machine)
@format_options()
def inspect(machine: str, output: OutputFormat) -> None:
    """Print all that is known of MACHINE, as JSON: its state, its processes, what was written about it.

    How it ended is what the audit log's record says. The rest is not verified anew: `mvm show MACHINE` does that, with
    plan, provenance and receipt.
    """
    with open_machine_store(TERMINAL) as here:
        entry = inspect_machine(here, machine, TERMINAL)
        status = entry.status
        known = {
            "labels": dict(status.labels),
            "supervisor": entry.supervisor,
            "snapshot": entry.snapshot if entry.is_cold else None,
            "digests": {
                "plan": status.plan.hex,
                "policy": status.policy.hex,
                "manifest": status.manifest.hex,
                "provenance": status.provenance.hex,
            },
            "directory": here.where(status.machine),
            "files": machine_files(here, status.machine),
        }
    found = _record(entry) | known
    output.show_one("machine", found, lambda: answer("machine", found))


@click.command()
@click.argument("machines", nargs=-1, required=True, metavar="MACHINE...", shell_complete=any_machine)
def wait(machines: tuple[str, ...]) -> None:
    """Wait until each MACHINE has ended; print its command's exit code, or how it ended where there is none."""
    with open_machine_store(TERMINAL) as here:
        waiting = [find_machine(here, text).status.machine for text in machines]
        for machine in waiting:
            ended = wait_for_end(here, machine)
            if ended.state == "dead":
                with open_machine_store(TERMINAL) as again:
                    ended = find_machine(again, machine)
            (ended,) = with_verified_ends(here, [ended], TERMINAL)
            click.echo((ended.ended or ended.state) if ended.exit_code is None else ended.exit_code)
