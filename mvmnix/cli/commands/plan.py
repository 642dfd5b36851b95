"""`mvm plan`: makes, signs, shows, lists and removes plans."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import chain

import click

from mvmnix.api import (
    STATEMENT_LIMIT,
    KeptPlan,
    KeylessChoice,
    PlanOptions,
    Use,
    add_signature,
    draft_plan,
    file_bytes,
    list_plans,
    open_context,
    open_image_builder,
    open_signed,
    plan_bytes,
    plan_statement,
    refuse_early,
    remove_plans,
    runnable_ref,
)
from mvmnix.cli.completers import file, flake_or_image, kept_plan
from mvmnix.cli.option_hints import PlanningCommand
from mvmnix.cli.options.network import network_lines
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.options.outputs import Destination, OutputType
from mvmnix.cli.options.plan import data_lines, isolation_line, plan_options, share_lines
from mvmnix.cli.options.quantities import Span
from mvmnix.cli.options.secrets import secret_lines
from mvmnix.cli.options.signing import signing_options
from mvmnix.cli.output import TERMINAL, notice, short, table
from mvmnix.cli.progress import steps
from mvmnix.formats.escaping import escape, escape_line
from mvmnix.formats.strict import parse_json, show_time
from mvmnix.keys import Role
from mvmnix.system.output_files import OutputFile


@click.command("ls")
@format_options(ids=True)
def list_(output: OutputFormat) -> None:
    """List the plans that `mvm plan sign` signed here and keeps: as long as one is valid, its image is not removed.

    One that this policy or version doesn't understand is UNREADABLE, and then no image at all is removed.
    """
    with open_context(TERMINAL) as context:
        records = [_record(each) for each in list_plans(context)]
    digests = short(str(record["plan"]) for record in records)
    rows = [_row(record, digests) for record in records]
    header = ("PLAN", "IMAGE", "MANIFEST", "UNTIL", "USE", "SIGNERS")
    output.show("plans", records, lambda: table(header, rows), key="plan")


@click.command()
@click.argument("plans", nargs=-1, required=True, metavar="DIGEST...", shell_complete=kept_plan)
def rm(plans: tuple[str, ...]) -> None:
    """Forget kept plans, by the first six digits or more of their digests, so that they keep no image. Prints digests.

    That revokes nothing: a copy of the plan elsewhere starts machines until it expires, as long as its image is kept.
    """
    with open_context(TERMINAL) as context:
        for digest in remove_plans(context, plans):
            click.echo(str(digest))


def _record(kept: KeptPlan) -> dict[str, object]:
    said: dict[str, object] = {"plan": str(kept.digest), "readable": kept.plan is not None}
    if kept.plan is None:
        return said
    return said | {
        "image": kept.plan.image,
        "manifest": str(kept.plan.manifest or ""),
        "provenance": str(kept.plan.provenance),
        "notBefore": show_time(kept.plan.window.not_before),
        "notAfter": show_time(kept.plan.window.not_after),
        "expired": kept.has_expired,
        "use": str(kept.plan.use),
        "signers": list(kept.signers),
    }


def _row(record: Mapping[str, object], digests: Mapping[str, str]) -> tuple[str, ...]:
    plan = digests[str(record["plan"])]
    if not record["readable"]:
        return (plan, "UNREADABLE", "", "", "", "")
    until = "expired" if record["expired"] else str(record["notAfter"])
    signers = record["signers"]
    names = ", ".join(map(str, signers)) if isinstance(signers, list) else ""
    (manifest,) = short([str(record["manifest"])]).values()
    return (plan, str(record["image"]), manifest, until, str(record["use"]), names)


_OUT = click.option(
    "--out",
    "-o",
    default="-",
    type=OutputType(OutputFile, "FILE", prints=True),
    help="Where to write it. Default: stdout.",
)


@click.group()
def plan() -> None:
    """Make, sign, show and list plans: what may run, from which image, with what means, until when."""


@plan.command(cls=PlanningCommand)
@click.argument("flake", metavar="FLAKE[#ATTR]|image:NAME", shell_complete=flake_or_image)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--valid-for",
    type=Span("h", 1, 876_000),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="How long it may start machines.",
)
@click.option("--single-use", is_flag=True, help="It starts one machine, once. Default: as often as asked meanwhile.")
@plan_options
@_OUT
def create(*, flake: str, valid_for: int, single_use: bool, options: PlanOptions, out: Destination) -> None:
    """Make a plan for FLAKE's image, which is built first if it isn't yet, or for the kept image NAME.

    It is unsigned, an in-toto statement.
    """
    source = runnable_ref(flake)
    options = replace(
        options,
        use=Use.ONCE if single_use else Use.WITHIN_WINDOW,
        valid_for=timedelta(hours=valid_for),
    )
    with open_context(TERMINAL) as context:
        refuse_early(context, options)
        with steps() as progress, open_image_builder(context, progress) as images:
            finished = images.image(source)
        _write(out, plan_statement(draft_plan(context, finished, options)).to_bytes())


@plan.command()
@click.argument("plan_file", metavar="STATEMENT|BUNDLE", shell_complete=file)
@_OUT
@signing_options
def sign(plan_file: str, out: Destination, choice: KeylessChoice) -> None:
    """Sign a plan, with the planner's key or keyless; prints or writes the bundle. What is not a plan is not signed.

    Nor is one that looks as if it held a credential. A plan that others have signed gets one signature more: their
    bundles and the new one, a line each.
    """
    data = file_bytes(plan_file, STATEMENT_LIMIT)
    with open_context(TERMINAL) as context:
        context.signer.choose(choice, Role.PLANNER)
        _write(out, add_signature(context, data, plan_file))


@plan.command()
@click.argument("bundle", metavar="BUNDLE|plan:DIGEST", shell_complete=file)
def show(bundle: str) -> int:
    """Print the statement of a signed plan as JSON, and on stderr whether the trust policy admits its signer.

    There it also says what would isolate the guest, and names the secrets, directories, disk and network that it would
    be given: what runs in it can read and reach them.

    Exit codes: 0 admitted, 1 not admitted; it is printed all the same.
    """
    with open_context(TERMINAL) as context:
        found = open_signed(context, plan_bytes(context, bundle))
    for name in found.signers:
        click.echo(f"signed by {name}, a planner of the trust policy", err=True)
    for reason in found.refused:
        click.echo(escape_line(f"NOT ADMITTED [{reason.code}]: {reason.why}"), err=True)
    if (made := found.plan) is not None:  # what is no plan is shown all the same
        given = (secret_lines(made), share_lines(made), data_lines(made), network_lines(made))
        for line in chain([isolation_line(made)], *given):
            click.echo(escape(line), err=True)
    click.echo(escape(json.dumps(parse_json(found.payload), indent=2, sort_keys=True)))
    return int(bool(found.refused))


for command in (list_, rm):
    plan.add_command(command)


def _write(out: Destination, data: bytes) -> None:
    if out.write(data):
        notice(f"replaced {out.path}, which held something else")
