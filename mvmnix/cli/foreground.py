"""Runs a machine in the caller's terminal: its standard streams are the workload's, a terminal only as text."""

import os
from collections.abc import Callable
from typing import Any

import click

from mvmnix.api.context import Context
from mvmnix.api.launch import Ran, host_for, run_attached
from mvmnix.cli.raw import shape
from mvmnix.launch.channel.endpoints import FdSink
from mvmnix.launch.loop import Loop
from mvmnix.launch.verify import VerifiedPlan


def output(loop: Loop, fd: int, *, raw: bool) -> FdSink:
    """Where a guest's bytes go: as they are into files and pipes; to a terminal as text, unless asked for raw."""
    return FdSink(loop, fd, shape(terminal=os.isatty(fd), raw=raw))


def rm_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --rm and --no-rm; the command is handed `disposable`, None where neither was said."""
    return click.option(
        "--rm/--no-rm",
        "disposable",
        default=None,
        help="Remove the machine by itself once it has ended and so have 50 younger ones that were started so. "
        "Default: --rm; with --detach --no-rm.",
    )(command)


def run_here(
    context: Context,
    plan: VerifiedPlan,
    *,
    name: str = "",
    raw: bool,
    created: str = "",
    disposable: bool = False,
) -> Ran:
    """Start the machine, run the plan's command with our standard streams, and end it; a container's likewise.

    `created` is the id of a machine of `mvm create`; without it there is a new one. `disposable` as in `run_attached`.
    """
    host = host_for(context, plan)
    out, err = output(host.loop, 1, raw=raw), output(host.loop, 2, raw=raw)
    return run_attached(plan, host, stdout=out, stderr=err, stdin=0, name=name, created=created, disposable=disposable)
