"""`mvm cp`: copies files and directories into and out of a running machine whose plan grants that."""

import os
import re
import sys
from pathlib import Path
from typing import Final

import click

from mvmnix.api import CopyOptions, copy_in, copy_in_tar, copy_out, copy_out_tar, open_machine_store
from mvmnix.cli.options.quantities import Size
from mvmnix.cli.output import TERMINAL, notice
from mvmnix.errors import UsageError

_MOST_NAMES: Final = 5
#: MACHINE:PATH; what begins with a dot or a slash is a path of this host.
_REMOTE: Final = re.compile(r"(?s)([A-Za-z0-9][A-Za-z0-9._-]*):(.*)")


@click.command("cp")
@click.argument("source")
@click.argument("destination")
@click.option("--no-clobber", "-n", "keeps", is_flag=True, help="Refuse to replace a file that is in the way.")
@click.option("--force", "-f", is_flag=True, help="Replace a link or device here, too. Default: refuse.")
@click.option("--leave-out", is_flag=True, help="Leave out links, devices and the like. Default: refuse.")
@click.option(
    "--limit-mib",
    default=1024,
    show_default=True,
    type=Size("m", 1, 2**30),
    metavar="MIB",
    help="Most that is copied.",
)
def cp(source: str, destination: str, *, keeps: bool, force: bool, leave_out: bool, limit_mib: int) -> None:
    """Copy a file or directory from MACHINE:PATH to a path here, or the other way, if its plan grants the verb copy.

    Into a directory that is there, it goes under its own name; a file replaces a file. `-` here is a tar stream: on
    standard output, or on standard input, of a directory that PATH is to be the name of. Links are not followed; modes
    are kept but for setuid and its like. A relative PATH begins at the plan's directory. Exit codes: 1 it couldn't be
    copied; 125 mvm failed; 126 refused.
    """
    if not destination or not source or source.endswith(":") or destination.endswith(":"):
        raise UsageError("a path is missing", hint="MACHINE:/the/path")
    if keeps and force:
        raise UsageError("--no-clobber and --force exclude each other", hint="give one of them")
    options = CopyOptions(not keeps, force, leave_out, limit_mib)
    match _REMOTE.fullmatch(source), _REMOTE.fullmatch(destination):
        case re.Match() as there, None:
            skipped = _copied_out(there[1], there[2], destination, options)
        case None, re.Match() as there:
            skipped = _copied_in(source, there[1], there[2], options)
        case _:
            raise UsageError("one of the two is MACHINE:PATH", hint="a path of this host may begin with ./")
    if skipped:
        names = ", ".join(name.replace("\n", "\\n") for name in skipped[:_MOST_NAMES])
        more = "" if len(skipped) <= _MOST_NAMES else " and others"
        notice(f"left out, as neither files nor directories: {len(skipped)}: {names}{more}")


def _copied_out(machine: str, path: str, destination: str, options: CopyOptions) -> list[str]:
    if destination == "-" and os.isatty(1):
        raise UsageError("a tar stream is nothing for a terminal", hint="send it into a file or a pipe")
    with open_machine_store(TERMINAL) as here:
        if destination != "-":
            return copy_out(here, machine, path, Path(destination), options)
        skipped = copy_out_tar(here, machine, path, sys.stdout.buffer.write, options)
    sys.stdout.buffer.flush()
    return skipped


def _copied_in(source: str, machine: str, path: str, options: CopyOptions) -> list[str]:
    with open_machine_store(TERMINAL) as here:
        if source == "-":
            return copy_in_tar(here, sys.stdin.buffer, machine, path, options)
        return copy_in(here, Path(source), machine, path, options)
