"""`mvm shell`: a terminal in a running machine whose plan grants that; the guest's bytes drive the caller's own."""

import os
import re
import signal
import time
from typing import Final

import click

from mvmnix.api import Call, End, Shell, Stream, call
from mvmnix.api.machine_store import open_machine_store
from mvmnix.cli.completers import running_machine
from mvmnix.cli.exec import environment
from mvmnix.cli.local_terminal import raw_terminal, size
from mvmnix.cli.stdio import handed_over
from mvmnix.cli.telling import TERMINAL, notice
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.launch.control.messages import TERM

_STREAMS: Final = (Stream.STDIN, Stream.STDOUT)
#: Control-], as often within so many seconds, hangs up: what else is typed is the guest's.
_KEY: Final = b"\x1d"
_TIMES: Final = 3
_SECONDS: Final = 1.0
_NOTICE: Final = (
    "from here on the guest's bytes drive this terminal, and what runs there as the plan's user reads and writes it; "
    "Ctrl-] three times hangs up"
)


@click.command("shell", context_settings={"allow_interspersed_args": False})
@click.argument("machine", shell_complete=running_machine)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--env", "-e", "variables", multiple=True, metavar="NAME=VALUE", help="Added to the plan's environment.")
@click.option("--workdir", "-w", "directory", default="", help="Where it runs. Default: as the plan says.")
def shell(machine: str, command: tuple[str, ...], variables: tuple[str, ...], directory: str) -> int:
    """Open a terminal in MACHINE, if its plan grants the verb shell, and run the image's shell in it, or COMMAND.

    The guest's bytes go to this terminal raw. Ctrl-] three times within a second hangs up, and so does whatever ends
    this command; the shell in the guest ends with it. Exit codes: the command's own; 125 mvm failed; 126 refused; 127
    not found in the guest; 129 hung up.
    """
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("standard input and output are not a terminal", hint="mvm exec -i runs commands without one")
    command = command[1:] if command[:1] == ("--",) else command
    asked = Shell(command, *size(), _term(), environment(variables), directory, _STREAMS)
    ending = _Ending()
    with (
        open_machine_store(TERMINAL) as here,
        handed_over(_STREAMS, raw=True, typed=ending.typed) as hands,
        call(here, machine, asked, hands.descriptors) as it,
    ):
        ending.call = it
        notice(_NOTICE)
        with raw_terminal(it.resize) as attend:
            hands.begin()
            attend(it.fileno())
            try:
                status = it.wait()
            except MvmnixError:
                if not ending.happened:
                    raise
                status = None
            hands.finish()
    if status is None:
        notice("hung up")
        return 128 + signal.SIGHUP
    if status.end is not End.EXITED:
        notice(f"the command did not end by itself: it {status}")
    return status.exit_code


def _term() -> str:
    found = os.environ.get("TERM", "")
    return found if re.fullmatch(TERM, found) else "dumb"


class _Ending:
    """Looks at what is typed for the keys that hang up."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.happened = False
        self._pressed: list[float] = []

    def typed(self, data: bytes) -> None:
        """So much was typed; called by the thread that reads the terminal."""
        for key in data:
            if key != _KEY[0]:
                self._pressed.clear()
                continue
            self._pressed = [*self._pressed, time.monotonic()][-_TIMES:]
            if len(self._pressed) == _TIMES and self._pressed[-1] - self._pressed[0] <= _SECONDS:
                self._hang_up()

    def _hang_up(self) -> None:
        self.happened = True
        if self.call is not None:
            self.call.hang_up()
