"""`mvm run`: build or reuse, sign, plan, verify, launch, stream, and exit as the guest did."""

from contextlib import ExitStack

import click

from mvmnix.api.context import open_context
from mvmnix.api.image_builder import image_builder
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.source_refs import existing_source_ref
from mvmnix.cli.backends import backend_option, host_for, on_backend
from mvmnix.cli.confidences import references, secret_options
from mvmnix.cli.data import data_option, with_data
from mvmnix.cli.evidence import Chain
from mvmnix.cli.foreground import run_here
from mvmnix.cli.limit_options import limit_options
from mvmnix.cli.plan import plan_for, refuse_typed, without_credentials
from mvmnix.cli.plan_options import labelled, labels_option, verbs_option, within
from mvmnix.cli.progress import steps
from mvmnix.cli.raw import raw_option
from mvmnix.cli.shares import refuse_shares, share_option, shares
from mvmnix.cli.telling import TERMINAL, notice
from mvmnix.keys import Role
from mvmnix.launch import plan as plans
from mvmnix.launch.backends.kinds import Backend
from mvmnix.launch.data.disk import DataDisk
from mvmnix.launch.limits import Limits
from mvmnix.launch.validity import Use


@click.command()
@click.argument("flake", metavar="FLAKE[#ATTR]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", default="", help="A name for the machine.")
@backend_option
@verbs_option
@labels_option
@raw_option
@secret_options
@share_option
@data_option
@limit_options
@click.option("--evidence", is_flag=True, help="Print the chain of evidence when the machine has ended.")
def run(
    *,
    flake: str,
    command: tuple[str, ...],
    name: str,
    backend: Backend,
    verbs: tuple[str, ...],
    labels: tuple[str, ...],
    raw: bool,
    secrets: tuple[str, ...],
    secret_variables: tuple[str, ...],
    shared: tuple[str, ...],
    data: DataDisk | None,
    limits: Limits,
    evidence: bool,
) -> int:
    """Run FLAKE's image in a microVM, and COMMAND in it instead of its own if one is given after --.

    Exit codes: the guest's own; 124 timeout; 125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    wanted, confided, given = existing_source_ref(flake), references(secrets, secret_variables), shares(shared)
    with open_context(TERMINAL) as rooms, ExitStack() as stack:
        rooms.settle_in(notice)
        put_in_order(rooms.roots, rooms.machines, TERMINAL)
        refuse_typed(rooms, command, labels)
        refuse_shares(rooms, given)
        with rooms.working():  # until its files are open, nobody may take the image away
            with steps() as progress, image_builder(rooms, progress) as images:
                finished = images.image(wanted)
            made = plan_for(rooms, finished, command, Use.ONCE, verbs=verbs, secrets=confided, shared=given)
            made = within(on_backend(labelled(with_data(made, data), labels), backend), finished.image, limits)
            plan = without_credentials(rooms, made)
            bundle = rooms.sign(Role.PLANNER, plans.to_statement(plan).to_bytes())
            verified = stack.enter_context(rooms.admitted(bundle, finished, notice))
        done = run_here(verified, host_for(rooms, verified, notice), name=name, raw=raw)
        if evidence:
            Chain(finished, verified, done).show()
        return done.finished.exit_code
