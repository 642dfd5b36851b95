"""`mvm policy`: explains what a trust policy admits and why, and tries it on cases; starts nothing."""

from dataclasses import replace
from pathlib import Path

import click

from mvmnix.api import open_context, policy_history
from mvmnix.api.policy_report import cases
from mvmnix.api.policy_report.account import Account, Judge, Judged
from mvmnix.api.policy_report.words import account_lines
from mvmnix.api.verify.policy_at import named_files
from mvmnix.cli.commands.verify import could_not_verify
from mvmnix.cli.output import TERMINAL, answer, table
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, Reason
from mvmnix.formats.escaping import escape, escape_line
from mvmnix.plural import counted
from mvmnix.provenance.policy.policy_files import Files, in_force

_POLICY = click.option(
    "--policy",
    "named",
    default="",
    metavar="FILE",
    help="This trust.toml, with what lies beside it, and no other. Default: the policy in force here.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_MARKS = {True: "yes", False: "NO", None: "-"}


@click.group()
def policy() -> None:
    """Explain what a trust policy admits and why, and try it on cases with known verdicts."""


@policy.command()
@click.argument("items", nargs=-1, metavar="[IMAGE|PLAN|PROVENANCE|URI]...")
@_POLICY
@_JSON
def check(items: tuple[str, ...], named: str, as_json: bool) -> int:
    """Say which rules of the policy admit each item or refuse it; without one, give an account of the whole policy.

    IMAGE is a directory of `mvm build --out`, verified as a whole. PLAN and PROVENANCE are bundles; the files that
    they are about are not looked at. URI names a source as provenance does: path:NAME, git+URL?rev=COMMIT.

    Exit codes: 0 admitted, 1 something is refused, or the policy has expired or is older than the log's last one, 2
    something can't be read.
    """
    with could_not_verify():
        if not items:
            return _tell(_account(named) if named else _in_force(), as_json=as_json)
        account, older = _account(named), () if named else _older()
        judge = Judge(account.policy, account.now, older)
        judged = [judge.item(item) for item in items]
        if as_json:
            answer("policy check", [each.record for each in judged])
        else:
            for each in judged:
                _show(each)
        return int(not all(each.admitted for each in judged))


@policy.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@_POLICY
@_JSON
def test(directory: Path, named: str, as_json: bool) -> int:
    """Try the policy on each case in DIRECTORY, NAME.toml: evidence, a time, and the verdict that is right.

    Exit codes: 0 all verdicts are as expected, 1 not all, 2 something can't be read, or there is no case.
    """
    with could_not_verify():
        outcomes = list(cases.run(directory, _account(named).policy))
        wrong = [outcome for outcome in outcomes if outcome.problem]
        if as_json:
            answer("policy test", {"cases": [outcome.record for outcome in outcomes], "failed": len(wrong)})
            return int(bool(wrong))
        for outcome in outcomes:
            said = f"FAILED {outcome.name}: {outcome.problem}" if outcome.problem else f"ok {outcome.name}"
            click.echo(escape(said))
        click.echo(f"{counted(len(outcomes), 'case')}, {len(wrong)} failed", err=True)
        return int(bool(wrong))


def _tell(account: Account, *, as_json: bool) -> int:
    if as_json:
        answer("policy", account.record)
    else:
        table(("ABOUT", "WHAT IT SAYS"), account_lines(account))
    return int(account.now >= account.policy.expires or bool(account.rolled_back))


def _account(named: str) -> Account:
    """The policy that was named, or the one in force. Raises MvmnixError."""
    if named:
        floor, user = Files(None), named_files(named)
    else:
        with open_context(TERMINAL) as context:
            floor, user = context.policy_files
    return Account(in_force(floor, user), floor, user, now())


def _in_force() -> Account:
    """The policy in force, held against the last one in the log, if there is a log. Raises MvmnixError."""
    with open_context(TERMINAL) as context:
        floor, user = context.policy_files
        account = Account(in_force(floor, user), floor, user, now())
        try:
            found = policy_history.rolled_back(context, account.policy)
        except MvmnixError as error:
            return replace(account, not_compared=policy_history.why(error))
    return replace(account, rolled_back=tuple(f"{reason.what}: {reason.why}; {reason.hint}" for reason in found))


def _older() -> tuple[Reason, ...]:
    with open_context(TERMINAL) as context:
        return policy_history.not_older(context, context.policy)


def _show(it: Judged) -> None:
    level = "" if it.level is None else f", SLSA Build L{it.level}"
    verdict = f"admitted{level}" if it.admitted else "refused"
    alone = "; its files were not looked at" if it.kind in {"plan", "provenance"} else ""
    click.echo(escape_line(f"{it.name}: {it.kind} {verdict}{alone}"))
    for finding in it.findings:
        click.echo(escape_line(f"  {_MARKS[finding.admits]:<3}  {finding.rule:<10}  {finding.text}"))
    for reason in it.reasons:
        click.echo(escape_line(f"  refused [{reason.code}]: {reason.why}. Next: {reason.hint}"))
