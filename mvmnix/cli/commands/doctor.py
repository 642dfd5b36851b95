"""`mvm doctor`: says what works on this machine, what does not, and what repairs it; changes nothing."""

import click
from rich.console import Console

from mvmnix.api import open_context
from mvmnix.api.doctor import Finding, Health, look_at_host
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.formats.escaping import escape, escape_line

_MARKS = {Health.GOOD: "[green]✓[/green]", Health.NOTE: "[yellow]•[/yellow]", Health.BAD: "[red]✗[/red]"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON.")
def doctor(as_json: bool) -> int:
    """Say what works on this machine, what does not, and what to do. Exits with 1 when something does not work."""
    with open_context(TERMINAL) as context:
        found = list(look_at_host(context))
    if as_json:
        answer("doctor", [_record(one) for one in found])
    else:
        console = Console(highlight=False)
        is_whole = not console.is_terminal  # each finding on a line of its own, for what reads a pipe or a file
        for one in found:
            console.print(f"{_MARKS[one.health]} [bold]{one.what}[/bold] ", end="")
            console.print(escape(one.said + (f"  → {one.next}" if one.next else "")), markup=False, soft_wrap=is_whole)
            for line in one.commands:  # as wide as they are: a terminal's own line breaks are not copied
                console.print(escape_line(f"    {line}"), markup=False, soft_wrap=True)
    return int(any(one.health is Health.BAD for one in found))


def _record(it: Finding) -> dict[str, object]:
    return {"what": it.what, "health": it.health, "said": it.said, "next": it.next, "commands": list(it.commands)}
