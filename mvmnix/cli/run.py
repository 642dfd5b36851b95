"""`mvm run`: build or reuse, sign, plan, verify, launch, stream, and exit as the guest did."""

from contextlib import ExitStack

import click

from mvmnix.api.context import open_context
from mvmnix.api.image_builder import open_image_builder
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.plans import PlanOptions, draft_plan, refuse_early, sign_plan
from mvmnix.api.source_refs import runnable_ref
from mvmnix.cli.backends import backend_option
from mvmnix.cli.completers import directory
from mvmnix.cli.confidences import secret_options
from mvmnix.cli.data import data_option
from mvmnix.cli.evidence import Chain
from mvmnix.cli.foreground import run_here
from mvmnix.cli.limit_options import limit_options
from mvmnix.cli.plan_options import labels_option, plan_options, verbs_option
from mvmnix.cli.progress import steps
from mvmnix.cli.raw import raw_option
from mvmnix.cli.shares import share_option
from mvmnix.cli.telling import TERMINAL, notice


@click.command()
@click.argument("flake", metavar="FLAKE[#ATTR]|image:NAME", shell_complete=directory)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", default="", help="A name for the machine. Default: two words by chance.")
@backend_option
@verbs_option
@labels_option
@raw_option
@secret_options
@share_option
@data_option
@limit_options
@click.option("--evidence", is_flag=True, help="Print the chain of evidence when the machine has ended.")
@plan_options
def run(*, flake: str, name: str, raw: bool, options: PlanOptions, evidence: bool) -> int:
    """Run FLAKE's image, or the kept image NAME, in a microVM; and COMMAND there instead of its own, given after --.

    Exit codes: the guest's own; 124 timeout; 125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    wanted = runnable_ref(flake)
    with open_context(TERMINAL) as context, ExitStack() as stack:
        context.initialize()
        put_in_order(context.roots, context.machines, TERMINAL)
        refuse_early(context, options)
        with context.working():  # until its files are open, the image may not be removed
            with steps() as progress, open_image_builder(context, progress) as images:
                finished = images.image(wanted)
            bundle = sign_plan(context, draft_plan(context, finished, options))
            verified = stack.enter_context(context.admitted(bundle, finished, notice))
        ran = run_here(context, verified, name=name, raw=raw)
        if evidence:
            Chain(finished, verified, ran).show()
        return ran.finished.exit_code
