"""`mvm plan`: makes, signs and shows plans."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from mvmnix.builder.keeping.library import LIMIT, Finished
from mvmnix.cli.house import House, file_bytes, house
from mvmnix.cli.references import reference
from mvmnix.cli.telling import escape
from mvmnix.cli.workshop import workshop
from mvmnix.errors import RefusedError
from mvmnix.keys import Role
from mvmnix.launch import plan as plans
from mvmnix.launch import steps
from mvmnix.launch.host import now
from mvmnix.launch.plan import Accelerator, Plan
from mvmnix.model import Digest, Posture, Verb
from mvmnix.provenance import envelope, statement
from mvmnix.provenance.authenticate import authenticate
from mvmnix.provenance.statement import Statement
from mvmnix.strict import parse_json

_OUT = click.option("--out", "-o", default="-", type=click.Path(), help="Where to write it. Default: stdout.")


def plan_for(rooms: House, finished: Finished, command: tuple[str, ...]) -> Plan:
    """The plan to run an image as it says itself, with another command if one was given."""
    image = finished.image
    made = Plan.for_image(
        image,
        policy=rooms.policy.digest,
        provenance=finished.provenance.bundle,
        now=now(),
        # streams go to ports, which nobody has named; whoever serves some makes a plan for them
        verbs=image.verbs - {Verb.STREAM} if image.posture is Posture.DEV else frozenset(),
    )
    return replace(made, workload=replace(made.workload, argv=command)) if command else made


def plan_of(claim: Statement) -> Plan:
    """The plan that a statement is. Raises RefusedError for one of another type, and for a plan out of its bounds."""
    steps.step_7_predicate_type(claim)
    return steps.step_8_plan(claim)


@click.group()
def plan() -> None:
    """Make, sign and show plans: what may run, from which image, with what means, until when."""


@plan.command()
@click.argument("flake", metavar="FLAKE[#ATTR]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--vcpus", type=click.IntRange(1, 64), help="Processors. Default: the image's.")
@click.option("--memory", type=click.IntRange(96, 2**20), metavar="MIB", help="Memory. Default: the image's.")
@click.option("--scratch", type=click.IntRange(1, 2**20), metavar="MIB", help="Scratch space, in memory.")
@click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="Wall time of the run.")
@click.option(
    "--accelerator",
    type=click.Choice([each.value for each in Accelerator]),
    help="What must execute the guest. Default: any.",
)
@click.option("--valid-for", type=click.IntRange(1), default=24, show_default=True, metavar="HOURS")
@_OUT
def create(  # noqa: PLR0917 - click hands over what was typed
    flake: str,
    command: tuple[str, ...],
    vcpus: int | None,
    memory: int | None,
    scratch: int | None,
    timeout: int | None,
    accelerator: str | None,
    valid_for: int,
    out: str,
) -> None:
    """Make a plan for FLAKE's image, which is built first if it isn't yet; unsigned, as an in-toto statement."""
    with house() as rooms:
        with workshop(rooms) as shop:
            finished = shop.image(reference(flake))
        made = plan_for(rooms, finished, command)
    changed = replace(
        made,
        vcpus=vcpus or made.vcpus,
        memory_mib=memory or made.memory_mib,
        scratch_mib=scratch or made.scratch_mib,
        timeouts=replace(made.timeouts, wall_seconds=timeout or made.timeouts.wall_seconds),
        accelerator=made.accelerator if accelerator is None else Accelerator(accelerator),
        window=replace(made.window, not_after=made.window.not_before + timedelta(hours=valid_for)),
    )
    _write(out, plans.to_statement(changed).to_bytes())


@plan.command()
@click.argument("statement_file", metavar="STATEMENT")
@_OUT
def sign(statement_file: str, out: str) -> None:
    """Sign a plan with the planner's key; prints or writes the Sigstore bundle. What is no plan is not signed."""
    data = file_bytes(statement_file, LIMIT)
    made = plan_of(statement.parse(data))
    with house() as rooms:
        bundle = rooms.sign(Role.PLANNER, plans.to_statement(made).to_bytes())
        with rooms.working():  # what the plan needs is kept from now on, until it expires
            rooms.plans.put(bundle, Digest.of(bundle))
        _write(out, bundle)


@plan.command()
@click.argument("bundle", metavar="BUNDLE")
def show(bundle: str) -> None:
    """Print the statement of a signed plan as JSON, and on stderr whether the trust policy admits its signer."""
    data = file_bytes(bundle, LIMIT)
    with house() as rooms:
        try:
            authentic = authenticate(data, policy=rooms.policy, role=Role.PLANNER, what="the plan")
            click.echo(f"signed by {authentic.signer.name}, a planner of the trust policy", err=True)
        except RefusedError as refused:
            for reason in refused.reasons:
                click.echo(escape(f"NOT ADMITTED [{reason.code}]: {reason.why}"), err=True)
    shown = json.dumps(parse_json(envelope.parse(data).payload), indent=2, sort_keys=True)
    click.echo(escape(shown))


def _write(out: str, data: bytes) -> None:
    if out == "-":
        click.echo(data, nl=False)
    else:
        Path(out).write_bytes(data)
