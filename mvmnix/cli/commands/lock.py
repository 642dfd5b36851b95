"""`mvm lock`: makes or updates flake.lock, evaluated in the builder VM alone, and says what changed."""

import click

from mvmnix.api import InputPath, LockChange, LockRequest, lock_flake, open_context
from mvmnix.cli.completers import directory
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.cli.progress import steps
from mvmnix.errors import UsageError
from mvmnix.formats.escaping import escape


@click.command()
@click.argument("flake", default=".", shell_complete=directory)
@click.option("--update", "updates", multiple=True, metavar="INPUT", help="Resolve this input anew, or INPUT/INPUT.")
@click.option("--update-all", is_flag=True, help="Resolve all inputs anew.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
def lock(flake: str, updates: tuple[str, ...], update_all: bool, as_json: bool) -> None:
    """Make or update the flake.lock of FLAKE (default: the directory here).

    The tracked files are taken as they lie there; with path:DIR, all files. What is locked stays, unless
    the flake asks for something else, or --update says so.
    """
    if "#" in flake:
        raise UsageError("a flake is locked as a whole", hint="name it without #ATTRIBUTE")
    if updates and update_all:
        raise UsageError("--update and --update-all exclude each other", hint="give one of them")
    request = LockRequest(tuple(_path(text) for text in updates), update_all)
    with open_context(TERMINAL) as context, steps() as progress:
        made, where = lock_flake(context, flake, request, progress)
    for change in made.changes:
        click.echo(escape(_line(change)), err=True)
    if as_json:
        changes = [{"input": "/".join(it.input), "old": it.old, "new": it.new} for it in made.changes]
        answer("lock", {"lock": str(where), "written": made.data is not None, "changes": changes})
    elif not made.changes:
        click.echo(f"{where}: " + ("nothing to change" if made.data is None else "written"), err=True)


def _path(text: str) -> InputPath:
    return tuple(part for part in text.split("/") if part)


def _line(change: LockChange) -> str:
    return f"{'/'.join(change.input)}: {change.old or '(none)'} → {change.new or '(none)'}"
