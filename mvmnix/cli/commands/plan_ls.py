"""`mvm plan ls`, `rm`: the copies of plans that were signed here, which keep their images until they expire."""

from collections.abc import Mapping

import click

from mvmnix.api import KeptPlan, list_plans, open_context, remove_plans
from mvmnix.cli.completers import kept_plan
from mvmnix.cli.output import TERMINAL, answer, short, table
from mvmnix.strict import show_time


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the plans that `mvm plan sign` signed here and keeps: as long as one is valid, its image is not removed.

    One that this policy or version doesn't understand is UNREADABLE, and then no image at all is removed.
    """
    with open_context(TERMINAL) as context:
        records = [_record(each) for each in list_plans(context)]
    if as_json:
        answer("plans", records)
        return
    digests = short(str(record["plan"]) for record in records)
    table(("PLAN", "IMAGE", "MANIFEST", "UNTIL", "USE", "SIGNERS"), (_row(each, digests) for each in records))


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
