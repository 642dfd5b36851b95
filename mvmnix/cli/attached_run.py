"""Runs a machine in the caller's terminal: its standard streams are the workload's, a terminal only as text."""

import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial, reduce, wraps
from typing import Any, Final, NoReturn

import click

from mvmnix.api import (
    Ended,
    Loop,
    Mode,
    Retention,
    RunningMachine,
    Started,
    StartOptions,
    Steps,
    StopRequestedError,
    Stream,
    TerminalSize,
    run_on_loop,
    stopping_signals,
)
from mvmnix.cli.local_terminal import NOTICE, OwnTerminal, refuse_none, refuse_without_input, size
from mvmnix.cli.output import notice, raw_option
from mvmnix.cli.stdio import StreamBridge, bridged_streams
from mvmnix.errors import UsageError

#: Starts a machine with the options that it is given.
type Start = Callable[[StartOptions], Steps[RunningMachine]]

#: A start that stays within what bounds this process.
private_option: Final = click.option(
    "--private-launcher",
    "private",
    is_flag=True,
    help="Start the machine from a child of this process, within its control group, and not by the shared launcher.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How the caller stays with a machine: not at all, with its streams, or with its terminal. Raises UsageError.

    `disposable` is None where neither --rm nor --no-rm was said. `raw` gives a terminal the guest's bytes as they are.
    `private` starts it from a child of this process.
    """

    detached: bool = False
    interactive: bool = False
    tty: bool = False
    raw: bool = False
    disposable: bool | None = None
    private: bool = False

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
    private_option,
)


def attach_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an `Attachment`, handed over as one argument `attachment`. Raises UsageError."""

    @wraps(command)
    def collected(
        *,
        detached: bool,
        interactive: bool,
        tty: bool,
        raw: bool,
        disposable: bool | None,
        private: bool,
        **others: Any,
    ) -> Any:
        how = Attachment(
            detached=detached, interactive=interactive, tty=tty, raw=raw, disposable=disposable, private=private
        )
        return command(attachment=how, **others)

    return reduce(lambda made, option: option(made), reversed(_OPTIONS), collected)


def start_options(how: Attachment, *, name: str = "", image: str = "", vsa: str = "") -> StartOptions:
    """How the machine is started, but for the streams of an attached one. Raises UsageError."""
    mode = Mode.DETACHED if how.detached else Mode.ATTACHED
    return StartOptions(mode=mode, name=name, retention=how.retention, image=image, vsa=vsa, private=how.private)


def run_here(start: Start, how: Attachment, options: StartOptions) -> tuple[Started, Ended]:
    """Have a machine run the plan's command with our standard streams, to its end.

    `start` starts it, with the options that it is given. A signal that stops this process stops the machine in order; a
    second one ends it.
    """
    streams = (Stream.STDIN, Stream.STDOUT) if how.tty else tuple(Stream)
    terminal = OwnTerminal() if how.tty else None
    if terminal is not None:
        notice(NOTICE)
    loop = Loop()
    loop.listen()

    def typed(data: bytes) -> None:
        if terminal is not None and terminal.hangs_up(data):
            loop.post(_hang_up)

    try:
        with (
            stopping_signals(loop),
            bridged_streams(streams, raw=how.raw or how.tty, typed=typed) as bridge,
            run_on_loop(start(_with_streams(options, bridge, terminal)), loop) as machine,
            nullcontext() if terminal is None else terminal.raw(partial(_resize_soon, loop, machine)),
        ):
            bridge.begin()  # a terminal that isn't raw yet would change what comes
            return machine.started, run_on_loop(machine.finish(), loop)
    finally:
        loop.close()


def _with_streams(options: StartOptions, bridge: StreamBridge, terminal: OwnTerminal | None) -> StartOptions:
    size = None if terminal is None else TerminalSize(terminal.kind, *terminal.size())
    return replace(options, streams=bridge.pipes, terminal=size)


def _resize_soon(loop: Loop, machine: RunningMachine) -> None:
    """Tell the machine the terminal's size; a signal's handler, which may run at any moment: the loop does the rest."""
    loop.after(0, lambda: machine.resize(*size()))


def _hang_up() -> NoReturn:
    raise StopRequestedError(signal.SIGHUP)
