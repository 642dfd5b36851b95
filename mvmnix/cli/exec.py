"""`mvm exec`: runs another command in a running machine whose plan grants that, with the caller's standard streams."""

import signal
from collections.abc import Mapping

import click

from mvmnix.api import Call, End, Exec, ExitStatus, Stream, call
from mvmnix.api.machine_store import open_machine_store
from mvmnix.cli.completers import running_machine
from mvmnix.cli.raw import raw_option
from mvmnix.cli.stdio import attentive, handed_over
from mvmnix.cli.telling import TERMINAL, notice
from mvmnix.errors import UsageError


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("machine", shell_complete=running_machine)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--interactive", "-i", is_flag=True, help="Hand it standard input. Default: it has none.")
@click.option("--env", "-e", "variables", multiple=True, metavar="NAME=VALUE", help="Added to the plan's environment.")
@click.option("--workdir", "-w", "directory", default="", help="Where it runs. Default: as the plan says.")
@raw_option
@click.option("--timeout", default=0, type=click.IntRange(0, 2**31 - 1), metavar="SECONDS", help="Default: none.")
def exec_(  # noqa: PLR0917 - click hands over what was typed
    machine: str,
    command: tuple[str, ...],
    interactive: bool,
    variables: tuple[str, ...],
    directory: str,
    raw: bool,
    timeout: int,
) -> int:
    """Run COMMAND in MACHINE, as a list of arguments that no shell reads, if its plan grants the verb exec.

    What it prints goes raw into files and pipes, and as text to a terminal. Exit codes: the command's own; 124 timeout;
    125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    streams = tuple(Stream) if interactive else (Stream.STDOUT, Stream.STDERR)
    command = command[1:] if command[0] == "--" else command  # everything after MACHINE is the command's
    asked = Exec(command, environment(variables), directory, timeout, streams)
    with (
        open_machine_store(TERMINAL) as here,
        handed_over(streams, raw=raw) as hands,
        call(here, machine, asked, hands.descriptors) as it,
    ):
        hands.begin()
        status = _waited(it)
    if status.end is not End.EXITED:
        notice(f"the command {command[0]!r} did not end by itself: it {status}")
    return status.exit_code


def environment(texts: tuple[str, ...]) -> Mapping[str, str]:
    """What NAME=VALUE was said how often. Raises UsageError."""
    pairs = [text.partition("=") for text in texts]
    if bad := [name for name, equals, _ in pairs if not name or not equals]:
        raise UsageError(f"{bad[0]!r} has no value", hint="--env NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _waited(it: Call) -> ExitStatus:
    """The first interruption is the command's, the second ends it: whoever hangs up has it killed."""
    with attentive() as attend:
        try:
            attend(it.fileno())
        except KeyboardInterrupt:
            it.signal(signal.SIGINT)
            attend(it.fileno())
    return it.wait()
