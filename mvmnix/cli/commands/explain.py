"""`mvm explain`: prints what a reason code means, why that is refused, and what to do; reads nothing of the user's."""

import re
import textwrap
from dataclasses import asdict
from typing import Final

import click

from mvmnix.api import Denial
from mvmnix.cli.output import answer, json_option, table
from mvmnix.errors import ReasonCode, UsageError
from mvmnix.refusals.catalogue import explanations
from mvmnix.suggestion import did_you_mean

_WRAPPER: Final = textwrap.TextWrapper(
    78, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
)
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [code for code in ReasonCode if code.startswith(incomplete)]


@click.command()
@click.argument("code", required=False, metavar="[CODE]", shell_complete=_complete)
@json_option
def explain(code: str | None, *, as_json: bool) -> None:
    """Explain the reason CODE of a refusal, such as plan-expired; without CODE, list them all."""
    if code is None:
        _list(as_json=as_json)
        return
    found = explanations()[_read(code)]
    if as_json:
        answer("explanation", asdict(found))
        return
    click.echo(f"{found.code}\n\n  Since {found.since}; about {found.group}.\n")
    for title, text in (("Refused because", found.meaning), ("Why", found.why), ("What to do", found.remedy)):
        click.echo(f"{title}:")
        click.echo(_WRAPPER.fill(_without_links(text)))
        click.echo()
    click.echo("Example:")
    for line in found.example.splitlines():
        click.echo(f"  {line}".rstrip())


def _read(code: str) -> ReasonCode:
    code = code.lower()
    if code in ReasonCode:
        return ReasonCode(code)
    if code in Denial:
        raise UsageError(f"{code} is a denial of a guest's network", hint=f"mvm net explain {code}")
    raise UsageError(
        f"there is no reason code {code!r}", hint=f"{did_you_mean(code, ReasonCode)}list them: mvm explain"
    )


def _without_links(text: str) -> str:
    """Return a text with the paths of documents behind what links to them."""
    return _LINK.sub(r"\1 (docs/\2)", text)


def _list(*, as_json: bool) -> None:
    if as_json:
        answer("explanations", [asdict(found) for found in explanations().values()])
        return
    table(("CODE", "REFUSED BECAUSE"), ((found.code, found.meaning) for found in explanations().values()))
