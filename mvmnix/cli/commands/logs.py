"""`mvm logs`: what is kept of what a machine's command printed, or of its kernel's console; to a terminal as text."""

import sys
from collections.abc import Iterable
from typing import TextIO

import click

from mvmnix.api import Missing, Output, Piece, open_machine_store, read_console, read_output
from mvmnix.cli.completers import any_machine
from mvmnix.cli.output import TERMINAL, notice, shape
from mvmnix.plural import counted


@click.command()
@click.argument("machine", shell_complete=any_machine)
@click.option("--console", "log", flag_value="console", help="The kernel's console, in place of the command's output.")
@click.option("--stdout", "log", flag_value="stdout", help="Its standard output alone.")
@click.option("--stderr", "log", flag_value="stderr", help="Its standard error alone, on standard output.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is printed from now on, until MACHINE has ended.")
@click.option(
    "--tail",
    "-n",
    "lines",
    type=click.IntRange(0, 2**31 - 1),
    metavar="LINES",
    help="Only so many lines of what there is.",
)
def logs(machine: str, log: str | None, follow: bool, lines: int | None) -> None:
    """Print what MACHINE's own command printed: standard output there, standard error here; `mvm exec` keeps nothing.

    Escaped for a terminal, raw into a file or a pipe. What is kept is bounded by the plan (--output-log), the oldest
    is dropped, and what is missing is told on standard error. Nothing is kept of a run with a terminal (-it), and of a
    foreground run whose guest is given secrets only where --output-log says how much.
    """
    with open_machine_store(TERMINAL) as here:
        if log is None:
            _show(read_output(here, machine, follow=follow, lines=lines), sys.stdout, sys.stderr)
        elif log == "console":
            _show(read_console(here, machine, follow=follow, lines=lines), sys.stdout)
        else:
            wanted = (Output[log.upper()],)
            _show(read_output(here, machine, wanted, follow=follow, lines=lines), sys.stdout, sys.stdout)


def _show(pieces: Iterable[Piece | Missing], *ends: TextIO) -> None:
    """Each piece as soon as it is there, on the end for its output."""
    shown = [shape(terminal=end.isatty(), raw=False) or bytes for end in ends]
    for piece in pieces:
        if isinstance(piece, Missing):
            notice(f"{counted(piece.count, 'byte')} of output missing here: beyond the log's bound, or a full disk")
            continue
        number = piece.output - Output.STDOUT
        ends[number].buffer.write(shown[number](piece.data))
        ends[number].buffer.flush()
