"""The only types of options and arguments that name a file or directory to write, and the writer to standard output."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, override

import click

from mvmnix.cli.completers import directory, file
from mvmnix.errors import UsageError
from mvmnix.system.output_files import NewDirectory, NewFile, OutputDirectory, OutputFile

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Stdout:
    """Standard output in place of a file."""

    path = "-"

    def write(self, data: bytes) -> bool:
        """Print the data; return False, for nothing is replaced."""
        click.echo(data, nl=False)
        return False


type Destination = OutputFile | NewFile | Stdout


class OutputType[T: OutputFile | NewFile | OutputDirectory | NewDirectory](click.ParamType[T | Stdout]):
    """The value is what is written to, by the rule of system/output_files.py; with `prints`, `-` is standard output."""

    def __init__(self, noun: Callable[[str], T], name: str, *, prints: bool = False) -> None:
        """`name` is FILE or DIRECTORY."""
        self.noun, self.name, self.prints = noun, name, prints

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T | Stdout:
        """Make the writer of a path. Raises UsageError for a blank one, as an unset variable leaves it."""
        if not str(value).strip():
            raise UsageError(
                f"{self.name if param is None else param.opts[0]} is empty", hint="name a file or directory"
            )
        return Stdout() if self.prints and value == "-" else self.noun(str(value))

    @override
    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Complete paths of files or of directories."""
        return (file if self.name == "FILE" else directory)(ctx, param, incomplete)
