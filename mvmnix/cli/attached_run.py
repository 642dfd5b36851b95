"""Runs a machine in the caller's terminal: its standard streams are the workload's, a terminal only as text."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce, wraps
from typing import Any, Final

import click

from mvmnix.api import (
    Context,
    FdSink,
    Loop,
    Retention,
    RunResult,
    VerifiedPlan,
    host_for,
    refuse_terminal,
    run_attached,
)
from mvmnix.cli.local_terminal import NOTICE, OwnTerminal, refuse_none, refuse_without_input
from mvmnix.cli.output import notice, raw_option, shape
from mvmnix.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How the caller stays with a machine: not at all, with its streams, or with its terminal. Raises UsageError.

    `disposable` is None where neither --rm nor --no-rm was said. `raw` gives a terminal the guest's bytes as they are.
    """

    detached: bool = False
    interactive: bool = False
    tty: bool = False
    raw: bool = False
    disposable: bool | None = None

    def __post_init__(self) -> None:
        if self.detached and (self.interactive or self.tty or self.raw):
            why = "a detached machine's command has neither standard input nor a terminal"
            raise UsageError(why, hint="leave out -i, -t and --raw; `mvm exec -it` opens a terminal later")
        if self.tty:
            refuse_without_input(self.interactive)
        if self.tty and self.raw:
            raise UsageError(
                "-t and --raw exclude each other", hint="a terminal in the guest gets its bytes raw anyway"
            )
        if self.tty:
            refuse_none()

    @property
    def retention(self) -> Retention:
        """How long the machine is kept after its end."""
        if self.disposable is None:
            return Retention.ALWAYS if self.detached else Retention.LAST
        return Retention.NEVER if self.disposable else Retention.ALWAYS


_OPTIONS: Final = (
    click.option("--detach", "-d", "detached", is_flag=True, help="Leave the machine running, and print its id."),
    click.option(
        "--interactive",
        "-i",
        is_flag=True,
        help="For -t. In the foreground standard input is handed over without it, too.",
    ),
    click.option(
        "--tty",
        "-t",
        is_flag=True,
        help="With -i: run the command in a terminal in the guest, which takes the verb shell. The guest's bytes drive "
        "the terminal here.",
    ),
    raw_option,
    click.option(
        "--rm/--no-rm",
        "disposable",
        default=None,
        help="Remove the machine once it has ended, or keep it until mvm rm. Default: the last 50 are kept, with "
        "--detach all.",
    ),
)


def attach_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an `Attachment`, handed over as one argument `attachment`. Raises UsageError."""

    @wraps(command)
    def collected(
        *, detached: bool, interactive: bool, tty: bool, raw: bool, disposable: bool | None, **others: Any
    ) -> Any:
        how = Attachment(detached=detached, interactive=interactive, tty=tty, raw=raw, disposable=disposable)
        return command(attachment=how, **others)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), collected)


def output(loop: Loop, fd: int, *, raw: bool) -> FdSink:
    """Where a guest's bytes go: as they are into files and pipes; to a terminal as text, unless asked for raw."""
    return FdSink(loop, fd, shape(terminal=os.isatty(fd), raw=raw))


def run_here(context: Context, plan: VerifiedPlan, how: Attachment, *, name: str = "", created: str = "") -> RunResult:
    """Start the machine, run the plan's command with our standard streams, and end it; a container's likewise.

    `created` is the id of a machine of `mvm create`; without it there is a new one.
    """
    terminal = OwnTerminal() if how.tty else None
    if terminal is not None:
        refuse_terminal(context, plan)
        notice(NOTICE)
    host = host_for(context, plan)
    return run_attached(
        plan,
        host,
        stdout=output(host.loop, 1, raw=how.raw),
        stderr=output(host.loop, 2, raw=how.raw),
        stdin=0,
        name=name,
        created=created,
        retention=Retention.ALWAYS if created else how.retention,
        terminal=terminal,
    )
