"""`mvm completion SHELL`, and the answers to a shell that asks: commands, options, files, and names of what is kept.

An answer changes nothing: no machine is put in order, nothing is made or verified. What fails is left out, silently.
"""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from typing import Final

import click
from click.shell_completion import ShellComplete, get_completion_class

from mvmnix.cli.completers import COMPLETE

_PROGRAM: Final = "mvm"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script by which SHELL completes mvm's commands, options, machines and images.

    bash: eval "$(mvm completion bash)", or write it to ~/.local/share/bash-completion/completions/mvm. zsh: write it to
    a file _mvm in a directory of fpath. fish: write it to ~/.config/fish/completions/mvm.fish.
    """
    found = get_completion_class(shell)
    if found is not None:  # bash's own `source` would start a shell, to warn of those before 4.4
        click.echo(ShellComplete.source(found(click.Group(), {}, _PROGRAM, COMPLETE)), nl=False)


def answer_shell(cli: click.Command, asked: str, prepare: Callable[[], None]) -> None:
    """Print completions as click formats them for a shell; `asked` is COMPLETE's value, such as bash_complete.

    `prepare` is called before names of what is kept are looked up: it gives up root's rights.
    """
    shell, _, instruction = asked.partition("_")
    found = get_completion_class(shell) if instruction == "complete" else None
    if found is None:
        return
    with (
        redirect_stderr(io.StringIO()),
        suppress(Exception, SystemExit, KeyboardInterrupt),
    ):  # the shell would show what fails
        click.echo(found(cli, {"obj": prepare}, _PROGRAM, COMPLETE).complete().encode())
