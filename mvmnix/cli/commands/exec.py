"""`mvm exec`: runs another command in a running machine whose plan grants that, with the caller's standard streams."""

import signal
from collections.abc import Mapping

import click

from mvmnix.api import Call, Exec, ExitStatus, Stream, call, open_machine_store
from mvmnix.cli.completers import running_machine
from mvmnix.cli.option_hints import SignedPlanCommand
from mvmnix.cli.options.environment import env_option
from mvmnix.cli.options.quantities import Span
from mvmnix.cli.output import TERMINAL, notice, raw_option
from mvmnix.cli.stdio import attentive, bridged_streams
from mvmnix.errors import UsageError


@click.command("exec", cls=SignedPlanCommand, context_settings={"allow_interspersed_args": False})
@click.argument("machine", shell_complete=running_machine)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--interactive", "-i", is_flag=True, help="Hand it standard input. Default: it has none.")
@click.option("--tty", "-t", is_flag=True, help="With -i: open a terminal for it, as `mvm shell` does.")
@env_option("Added to the plan's environment. May be repeated.")
@click.option("--workdir", "-w", "directory", default="", help="Where it runs. Default: as the plan says.")
@click.option("--user", "-u", default="", metavar="UID[:GID]", help="As whom it runs. Default: the plan's user.")
@raw_option
@click.option("--timeout", default=0, type=Span("s", 0, 2**31 - 1), metavar="SECONDS", help="Default: none.")
def exec_(
    *,
    machine: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    variables: Mapping[str, str],
    directory: str,
    raw: bool,
    timeout: int,
    user: str,
) -> int:
    """Run COMMAND in MACHINE, as a list of arguments that no shell reads, if its plan grants the verb exec.

    What it prints goes raw into files and pipes, and as text to a terminal. With -it it gets a terminal in the guest,
    if the plan grants the verb shell, and the guest's bytes drive the terminal here. Exit codes: the command's own; 124
    timeout; 125 mvm failed; 126 refused; 127 command not found in the guest; 129 hung up.
    """
    command = command[1:] if command[0] == "--" else command  # everything after MACHINE is the command's
    if not command:
        raise UsageError("there is no command", hint="mvm exec MACHINE COMMAND…; mvm shell MACHINE opens a shell")
    if tty:
        _check_terminal(interactive, timeout, raw=raw)
        return _run_in_terminal(machine, command, variables, directory)
    streams = tuple(Stream) if interactive else (Stream.STDOUT, Stream.STDERR)
    with (
        open_machine_store(TERMINAL) as here,
        bridged_streams(streams, raw=raw) as bridge,
        call(
            here,
            machine,
            Exec(command, variables, directory, timeout, user, streams=bridge.streams),
            bridge.descriptors,
        ) as it,
    ):
        bridge.begin()
        status = _waited(it)
    if why := status.explain(command[0]):
        notice(why)
    return status.exit_code


def _check_terminal(interactive: bool, timeout: int, *, raw: bool) -> None:
    """Raises UsageError for what doesn't go with a terminal."""
    from mvmnix.cli.local_terminal import refuse_without_input  # noqa: PLC0415 - a command without a terminal doesn't pay for it

    refuse_without_input(interactive)
    if timeout or raw:
        raise UsageError("-t goes with neither --timeout nor --raw", hint="a terminal gets raw bytes, until it ends")


def _run_in_terminal(machine: str, command: tuple[str, ...], variables: Mapping[str, str], directory: str) -> int:
    """Run it in a terminal. Returns and raises as `run_in_terminal` does."""
    from mvmnix.cli.remote_terminal import run_in_terminal  # noqa: PLC0415 - as above

    return run_in_terminal(machine, command, variables, directory)


def _waited(it: Call) -> ExitStatus:
    """The first interruption is the command's, the second ends it: if the client disconnects, it is killed."""
    with attentive() as attend:
        try:
            attend(it.fileno())
        except KeyboardInterrupt:
            it.signal(signal.SIGINT)
            attend(it.fileno())
    return it.wait()
