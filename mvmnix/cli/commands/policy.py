"""`mvm policy`: makes a trust policy, and explains what one admits and why; starts nothing."""

from datetime import datetime
from pathlib import Path

import click

from mvmnix.api import open_context, policy_history
from mvmnix.api.policy_account import Account, account_in_force, named_account
from mvmnix.api.policy_check import Judged, PolicyCheck
from mvmnix.cli.commands.verify import could_not_verify
from mvmnix.cli.options.quantities import Moment
from mvmnix.cli.output import TERMINAL, answer, json_option, table
from mvmnix.cli.policy_table import account_lines
from mvmnix.clock import now
from mvmnix.errors import Reason, UsageError
from mvmnix.formats.escaping import escape_line
from mvmnix.provenance.policy.policy import TrustPolicy

_POLICY = click.option(
    "--policy",
    "named",
    default="",
    metavar="FILE",
    help="This trust.toml, with what lies beside it, and no other. Default: the policy in force here.",
)
_MARKS = {True: "yes", False: "NO", None: "-"}


@click.group()
def policy() -> None:
    """Explain what a trust policy admits and why; make another one where it was lost."""


@policy.command()
@click.argument("items", nargs=-1, metavar="[IMAGE|PLAN|PROVENANCE|URI]...")
@click.option(
    "--input", "inputs", multiple=True, metavar="URI", help="Judge what a lock node is locked to. Repeatable."
)
@click.option("--provenance", default="", metavar="FILE", help="Judge the IMAGE by this bundle, not its directory's.")
@click.option("--plan", default="", metavar="FILE", help="Judge the IMAGE with this plan for it.")
@click.option(
    "--at",
    type=Moment(),
    metavar="TIME",
    help="Judge as of this time, such as 2026-12-01T00:00:00Z, or yesterday. Default: now.",
)
@_POLICY
@json_option
def check(
    items: tuple[str, ...],
    inputs: tuple[str, ...],
    at: datetime | None,
    named: str,
    *,
    provenance: str,
    plan: str,
    as_json: bool,
) -> int:
    """Say which rules of the policy admit each item or refuse it; without one, give an account of the whole policy.

    IMAGE is a directory of `mvm build --out`, verified as a whole. PLAN and PROVENANCE are bundles; the files that
    they are about are not looked at. URI names a source as provenance does: path:NAME, git+URL?rev=COMMIT.

    Exit codes: 0 admitted, 1 something is refused, or the policy has expired or is older than the log's last one, 2
    something can't be read.
    """
    with could_not_verify():
        _refuse_unfit(items, inputs, provenance, plan, at)
        if not items and not inputs:
            return _tell(_account(named), as_json=as_json)
        in_force, older = _policy(named)
        judge = PolicyCheck(in_force, at or now(), older)
        judged = [*(judge.item(item, provenance, plan) for item in items), *map(judge.input, inputs)]
        if as_json:
            answer("policy check", [each.record for each in judged])
        else:
            for each in judged:
                _show(each)
        return int(not all(each.admitted for each in judged))


@policy.command()
def create() -> None:
    """Make a trust policy that admits the keys here alone: builder, planner and host. Makes those that are missing.

    The first `mvm run` does so by itself; this is for a policy that was lost, and for keys that were made before there
    was one. Its serial is higher than the last one in the audit log. An existing policy is never replaced.
    """
    with open_context(TERMINAL) as context:
        context.create_policy()


def _refuse_unfit(
    items: tuple[str, ...], inputs: tuple[str, ...], provenance: str, plan: str, at: datetime | None
) -> None:
    if (provenance or plan) and (len(items) != 1 or not Path(items[0]).is_dir()):
        raise UsageError("--provenance and --plan go with one image", hint="name its directory, and nothing else")
    if at is not None and not items and not inputs:
        raise UsageError("--at judges items, and there is none", hint="name an image, a bundle or a URI")


def _tell(account: Account, *, as_json: bool) -> int:
    if as_json:
        answer("policy", account.record)
    else:
        table(("ABOUT", "WHAT IT SAYS"), account_lines(account))
    return int(account.now >= account.policy.expires or bool(account.rolled_back))


def _account(named: str) -> Account:
    """Of the policy that was named, or of the one in force. Raises MvmnixError."""
    if named:
        return named_account(named)
    with open_context(TERMINAL) as context:
        return account_in_force(context)


def _policy(named: str) -> tuple[TrustPolicy, tuple[Reason, ...]]:
    """The same policy alone, and why nothing may stand on it. Raises MvmnixError."""
    if named:
        return named_account(named).policy, ()
    with open_context(TERMINAL) as context:
        return context.policy, policy_history.not_older(context, context.policy)


def _show(it: Judged) -> None:
    level = "" if it.level is None else f", SLSA Build L{it.level}"
    verdict = f"admitted{level}" if it.admitted else "refused"
    alone = "; its files were not looked at" if it.kind in {"plan", "provenance"} else ""
    click.echo(escape_line(f"{it.name}: {it.kind} {verdict}{alone}"))
    for finding in it.findings:
        click.echo(escape_line(f"  {_MARKS[finding.admits]:<3}  {finding.rule:<10}  {finding.text}"))
    for reason in it.reasons:
        click.echo(escape_line(f"  refused [{reason.code}]: {reason.why}. Next: {reason.hint}"))
