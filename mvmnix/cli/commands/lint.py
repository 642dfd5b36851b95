"""`mvm lint`: finds what a project's documents promise and no test shows; starts nothing."""

import json
from dataclasses import asdict

import click

from mvmnix import __version__
from mvmnix.api import ClaimReport, lint_claims
from mvmnix.claims.sarif import sarif_log
from mvmnix.cli.commands.verify import could_not_verify
from mvmnix.cli.output import answer, json_option
from mvmnix.errors import UsageError
from mvmnix.formats.escaping import escape_line, escape_markdown
from mvmnix.plural import counted


@click.group()
def lint() -> None:
    """Check a project's documents."""


@lint.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--config", default="", metavar="FILE", help="Another claims.toml than the current directory's.")
@click.option(
    "--junit", multiple=True, metavar="FILE", help="Outcomes of tests, as JUnit XML: witnesses have passed. Repeatable."
)
@click.option("--list", "as_list", is_flag=True, help="List the claims and their witnesses as a table in Markdown.")
@click.option("--sarif", is_flag=True, help="Print SARIF 2.1.0.")
@json_option
def claims(
    paths: tuple[str, ...], config: str, junit: tuple[str, ...], *, as_list: bool, sarif: bool, as_json: bool
) -> int:
    """Find broad phrases, security claims without a test, and examples that teach what mvm refuses.

    PATH is a document, or a directory in which claims.toml chooses; without one, the whole project is read. Each
    finding is a line `file:line:column: rule: words: what to do`.

    Exit codes: 0 nothing found, 1 findings, 2 something can't be read.
    """
    if as_list + sarif + as_json > 1:
        raise UsageError("--list, --sarif and --json exclude each other", hint="take one of them")
    with could_not_verify():
        report = lint_claims(paths, config, junit)
    if as_list:
        _print_list(report)
    elif sarif:
        click.echo(json.dumps(sarif_log(report.findings, report.unreadable, __version__), indent=2))
    elif as_json:
        answer("claims", _record(report))
    else:
        for finding in report.findings:
            click.echo(escape_line(str(finding)))
    return _conclude(report)


def _conclude(report: ClaimReport) -> int:
    """Tell the sum on stderr, and return the exit code."""
    for text in report.unreadable:
        click.echo(escape_line(f"mvm: {text}"), err=True)
    click.echo(f"{counted(len(report.claims), 'claim')}, {counted(len(report.findings), 'finding')}", err=True)
    return 2 if report.unreadable else int(bool(report.findings))


def _outcome(report: ClaimReport, witness: str) -> str:
    return report.outcomes.get(witness, "unknown")


def _record(report: ClaimReport) -> dict[str, object]:
    return {
        "findings": [asdict(finding) for finding in report.findings],
        "claims": [
            asdict(claim)
            | {"witnesses": [{"name": name, "outcome": _outcome(report, name)} for name in claim.witnesses]}
            for claim in report.claims
        ],
        "unreadable": report.unreadable,
    }


def _print_list(report: ClaimReport) -> None:
    click.echo("| claim | status | witness | last run |\n| --- | --- | --- | --- |")
    for claim in report.claims:
        sentence, path = escape_markdown(claim.sentence), escape_markdown(claim.path)
        names = "<br>".join(f"`{name}`" for name in claim.witnesses)
        runs = "<br>".join(_outcome(report, name) for name in claim.witnesses)
        click.echo(escape_line(f"| {sentence} ({path}:{claim.line}) | {claim.status} | {names} | {runs} |"))
