"""`mvm plan`: makes, signs and shows plans."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path

import click

from mvmnix.builder.keeping.library import LIMIT, Finished
from mvmnix.cli.backends import backend_option, on_backend, told_of_isolation
from mvmnix.cli.confidences import references, secret_options, told, with_secrets
from mvmnix.cli.data import data_option, with_data
from mvmnix.cli.data import told as told_of_data
from mvmnix.cli.house import House, file_bytes, house
from mvmnix.cli.limit_options import limit_options
from mvmnix.cli.plan_options import grantable, labelled, labels_option, parsed_labels, verbs_option, within
from mvmnix.cli.references import reference
from mvmnix.cli.shares import refuse_shares, share_option, shares, with_shares
from mvmnix.cli.shares import told as told_of_shares
from mvmnix.cli.signing import Choice, signing
from mvmnix.cli.telling import notice
from mvmnix.cli.workshop import workshop
from mvmnix.errors import ReasonCode, RefusedError, UsageError, refuse
from mvmnix.escaping import escape, escape_line
from mvmnix.keys import Role
from mvmnix.launch import plan as plans
from mvmnix.launch import signatures
from mvmnix.launch.backends.kinds import Backend
from mvmnix.launch.data.disk import DataDisk
from mvmnix.launch.host import now
from mvmnix.launch.limits import Limits
from mvmnix.launch.plan import Accelerator, Plan
from mvmnix.launch.secrets import credentials
from mvmnix.launch.secrets.reference import Reference
from mvmnix.launch.shares.share import Share
from mvmnix.launch.steps import plan_of
from mvmnix.launch.validity import Use
from mvmnix.model import Digest
from mvmnix.provenance import envelope, statement
from mvmnix.strict import parse_json

_OUT = click.option("--out", "-o", default="-", type=click.Path(), help="Where to write it. Default: stdout.")


def plan_for(
    rooms: House,
    finished: Finished,
    command: tuple[str, ...],
    use: Use,
    *,
    verbs: tuple[str, ...] = (),
    secrets: tuple[Reference, ...] = (),
    shared: tuple[Share, ...] = (),
) -> Plan:
    """The plan to run an image as it says itself, with another command if one was given, and these verbs granted.

    Raises RefusedError [verb-not-granted] for what the image doesn't offer, [plaintext-credential], which are logged;
    UsageError when there is no command, and for secrets or shares that don't go together.
    """
    image = finished.image
    if command:
        image = replace(image, workload=replace(image.workload, argv=command))
    with rooms.recorded():
        wanted = grantable(image, verbs)
        try:
            made = Plan.for_image(
                image,
                policy=rooms.policy.digest,
                provenance=finished.provenance.bundle,
                now=now(),
                use=use,
                verbs=wanted,
            )
        except ValueError as error:
            raise UsageError(f"this is no plan: {error}", hint="name a command after --") from error
        return with_shares(with_secrets(made, secrets), shared)


def refuse_typed(rooms: House, command: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """Refuse a credential that was just typed, before anything is built for it. Raises UsageError for labels."""
    named = parsed_labels(labels)
    with rooms.recorded():
        credentials.refuse_typed(command, named)


def without_credentials(rooms: House, made: Plan) -> Plan:
    """The plan, which holds nothing that looks like a credential. Raises RefusedError, which is logged."""
    with rooms.recorded():
        credentials.refuse_in_plan(made)
    return made


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
@backend_option
@click.option("--valid-for", type=click.IntRange(1), default=24, show_default=True, metavar="HOURS")
@click.option("--single-use", is_flag=True, help="It starts one machine, once. Default: as often as asked meanwhile.")
@verbs_option
@labels_option
@secret_options
@share_option
@data_option
@limit_options
@_OUT
def create(  # noqa: PLR0917 - click hands over what was typed
    flake: str,
    command: tuple[str, ...],
    vcpus: int | None,
    memory: int | None,
    scratch: int | None,
    timeout: int | None,
    accelerator: str | None,
    backend: Backend,
    valid_for: int,
    single_use: bool,
    verbs: tuple[str, ...],
    labels: tuple[str, ...],
    secrets: tuple[str, ...],
    secret_variables: tuple[str, ...],
    shared: tuple[str, ...],
    data: DataDisk | None,
    limits: Limits,
    out: str,
) -> None:
    """Make a plan for FLAKE's image, which is built first if it isn't yet; unsigned, as an in-toto statement."""
    source, confided, wanted = reference(flake), references(secrets, secret_variables), shares(shared)
    with house() as rooms:
        refuse_typed(rooms, command, labels)
        refuse_shares(rooms, wanted)
        with workshop(rooms) as shop:
            finished = shop.image(source)
        use = Use.ONCE if single_use else Use.WITHIN_WINDOW
        given = plan_for(rooms, finished, command, use, verbs=verbs, secrets=confided, shared=wanted)
        made = within(labelled(with_data(given, data), labels), finished.image, limits)
        changed = replace(
            made,
            vcpus=vcpus or made.vcpus,
            memory_mib=memory or made.memory_mib,
            scratch_mib=scratch or made.scratch_mib,
            timeouts=replace(made.timeouts, wall_seconds=timeout or made.timeouts.wall_seconds),
            accelerator=made.accelerator if accelerator is None else Accelerator(accelerator),
            window=replace(made.window, not_after=made.window.not_before + timedelta(hours=valid_for)),
        )
        _write(out, plans.to_statement(without_credentials(rooms, on_backend(changed, backend))).to_bytes())


@plan.command()
@click.argument("plan_file", metavar="STATEMENT|BUNDLE")
@_OUT
@signing
def sign(plan_file: str, out: str, choice: Choice) -> None:
    """Sign a plan, with the planner's key or keyless; prints or writes the bundle. What is no plan is not signed.

    Nor is one that looks as if it held a credential. A plan that others have signed gets one signature more: their
    bundles and the new one, a line each.
    """
    data = file_bytes(plan_file, LIMIT)
    others, data = _signed_before(data, plan_file)
    made = plan_of(statement.parse(data))
    with house() as rooms:
        without_credentials(rooms, made)
        rooms.desk.choose(choice, Role.PLANNER)
        if rooms.desk.has_signed(Role.PLANNER, others):
            hint = "launch it as it is, or have another planner sign it: each one counts once"
            raise UsageError(f"the planner key here has signed this plan already: {plan_file}", hint=hint)
        new = rooms.sign(Role.PLANNER, plans.to_statement(made).to_bytes())
        if others and envelope.parse(new).payload != data:
            raise UsageError("the plan was signed in other bytes than mvm writes", hint="sign the statement itself")
        bundle = b"\n".join((*others, new))
        with rooms.working():  # what the plan needs is kept from now on, until it expires
            rooms.plans.put(bundle, Digest.of(bundle))
        _write(out, bundle)


@plan.command()
@click.argument("bundle", metavar="BUNDLE")
def show(bundle: str) -> None:
    """Print the statement of a signed plan as JSON, and on stderr whether the trust policy admits its signer.

    There it also says what would isolate the guest, and names the secrets, directories and disk that it would be given:
    what runs in it can read them.
    """
    data = file_bytes(bundle, LIMIT)
    with house() as rooms:
        try:
            for authentic in signatures.gather(data, rooms.policy.trust):
                click.echo(f"signed by {authentic.signer.name}, a planner of the trust policy", err=True)
        except RefusedError as refused:
            for reason in refused.reasons:
                click.echo(escape_line(f"NOT ADMITTED [{reason.code}]: {reason.why}"), err=True)
    payload = signatures.payload(data)
    with suppress(RefusedError):  # what is no plan is shown all the same
        made = plan_of(statement.parse(payload))
        for line in chain([told_of_isolation(made)], told(made), told_of_shares(made), told_of_data(made)):
            click.echo(escape(line), err=True)
    shown = json.dumps(parse_json(payload), indent=2, sort_keys=True)
    click.echo(escape(shown))


def _signed_before(data: bytes, plan_file: str) -> tuple[tuple[bytes, ...], bytes]:
    """The bundles of a signed plan, which nobody has verified, and its statement; none for a statement alone."""
    if not data.startswith(signatures.BEGIN):
        if not signatures.is_statement(data):
            why = "this is no plan: neither a statement of `mvm plan create` nor a bundle of `mvm plan sign`"
            hint = "make one: `mvm plan create FLAKE --out FILE`"
            raise refuse(ReasonCode.STATEMENT_MALFORMED, plan_file, why, hint)
        return (), data
    return signatures.split(data), signatures.payload(data)


def _write(out: str, data: bytes) -> None:
    if out == "-":
        click.echo(data, nl=False)
        return
    path = Path(out)
    try:
        is_replaced = path.is_file() and (path.stat().st_size != len(data) or path.read_bytes() != data)
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{out} can't be written: {error.strerror}", hint="name another file") from error
    if is_replaced:
        notice(f"replaced {out}, which held something else")
