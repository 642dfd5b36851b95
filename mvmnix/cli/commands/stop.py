"""`mvm stop`, `kill`, `rm`, `pause`, `resume`: ends, removes and halts machines from outside."""

from collections.abc import Callable
from typing import Final

import click

from mvmnix.api import Pause, Resume, change_machines, kill_machines, remove_machines, stop_machines
from mvmnix.cli.completers import Completer, ended_machine, running_machine
from mvmnix.cli.options.quantities import Span
from mvmnix.cli.output import TERMINAL
from mvmnix.errors import UsageError


def _machines(completer: Completer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.argument("machines", nargs=-1, required=True, metavar="MACHINE...", shell_complete=completer)


@click.command()
@_machines(running_machine)
@click.option(
    "--patience",
    "-t",
    type=Span("s", 0, 2**31 - 1),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="After that, its supervisor is killed.",
)
def stop(machines: tuple[str, ...], patience: int) -> None:
    """Stop each MACHINE, by id or name: ask its guest, then end it. Prints its id."""
    for machine in stop_machines(machines, TERMINAL, patience=patience):
        click.echo(machine)


#: Signals by their names and numbers, as kill(1) takes them.
_SIGNALS: Final = {"KILL": "KILL", "9": "KILL", "TERM": "TERM", "15": "TERM"}


def _signal(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        return _SIGNALS[value.upper().removeprefix("SIG")]
    except KeyError:
        hint = (
            "KILL ends it now, TERM asks its guest first, as mvm stop does; a process in it gets any other from "
            "`mvm exec MACHINE -- kill -s USR1 PID`"
        )
        raise UsageError(f"a machine takes no signal {value[:40]!r}", hint=hint) from None


@click.command()
@_machines(running_machine)
@click.option(
    "--signal",
    "-s",
    "signal",
    default="KILL",
    show_default=True,
    metavar="KILL|TERM",
    callback=_signal,
    help="TERM asks its guest first, as mvm stop does.",
)
def kill(machines: tuple[str, ...], signal: str) -> None:
    """End each MACHINE now, without asking its guest; its receipt says so. Prints its id."""
    for machine in (kill_machines if signal == "KILL" else stop_machines)(machines, TERMINAL):
        click.echo(machine)


@click.command()
@_machines(ended_machine)
@click.option("--force", "-f", is_flag=True, help="End those that run, without asking their guests.")
def rm(machines: tuple[str, ...], force: bool) -> None:
    """Remove each MACHINE that has ended: its logs, plan and receipt. Prints its id.

    The audit log keeps what it has: start and end, and the digests of plan and receipt.
    """
    for machine in remove_machines(machines, TERMINAL, force=force):
        click.echo(machine)


@click.command()
@_machines(running_machine)
def pause(machines: tuple[str, ...]) -> None:
    """Pause each MACHINE until `mvm resume`; its memory stays, and its plan's wall time goes on.

    Prints its id.
    """
    _change(machines, Pause())


@click.command()
@_machines(running_machine)
def resume(machines: tuple[str, ...]) -> None:
    """Resume each paused MACHINE. Prints its id."""
    _change(machines, Resume())


def _change(machines: tuple[str, ...], asked: Pause | Resume) -> None:
    for machine in change_machines(machines, asked, TERMINAL):
        click.echo(machine)
