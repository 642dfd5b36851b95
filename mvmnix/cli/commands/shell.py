"""`mvm shell`: a terminal in a running machine whose plan grants that."""

from collections.abc import Mapping

import click

from mvmnix.cli.completers import running_machine
from mvmnix.cli.option_hints import SignedPlanCommand
from mvmnix.cli.options.environment import env_option
from mvmnix.cli.remote_terminal import run_in_terminal


@click.command("shell", cls=SignedPlanCommand, context_settings={"allow_interspersed_args": False})
@click.argument("machine", shell_complete=running_machine)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@env_option("Added to the plan's environment. May be repeated.")
@click.option("--workdir", "-w", "directory", default="", help="Where it runs. Default: as the plan says.")
def shell(machine: str, command: tuple[str, ...], variables: Mapping[str, str], directory: str) -> int:
    """Open a terminal in MACHINE, if its plan grants the verb shell, and run the image's shell in it, or COMMAND.

    The guest's bytes go to this terminal raw. Ctrl-] three times within a second hangs up, and so does whatever ends
    this command; the shell in the guest ends with it. Exit codes: the command's own; 125 mvm failed; 126 refused; 127
    not found in the guest; 129 hung up.
    """
    return run_in_terminal(machine, command[1:] if command[:1] == ("--",) else command, variables, directory)
