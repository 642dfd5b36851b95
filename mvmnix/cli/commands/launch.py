"""`mvm launch`: starts a machine from a signed plan, once everything it stands on verifies."""

from contextlib import ExitStack

import click

from mvmnix.api import admit_plan, open_context, plan_bytes, put_in_order, start_detached
from mvmnix.cli.attached_run import Attachment, attach_options, run_here
from mvmnix.cli.completers import file
from mvmnix.cli.option_hints import SignedPlanCommand
from mvmnix.cli.output import TERMINAL


@click.command(cls=SignedPlanCommand)
@click.argument("plan", metavar="PLAN|plan:DIGEST", shell_complete=file)
@attach_options
@click.option("--name", default="", help="A name for the machine. Default: two random words.")
@click.option(
    "--image", default="", metavar="DIRECTORY", help="Take the image from here, as `mvm build --out` wrote it."
)
@click.option("--vsa", default="", metavar="FILE", help="With --image: a verifier's summary instead of its evidence.")
def launch(*, plan: str, attachment: Attachment, name: str, image: str, vsa: str) -> int:
    """Start a machine from PLAN, the file of a signed plan or one of `mvm plan ls`, for an image that is kept here.

    Exit codes: the guest's own; 124 timeout; 125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    with open_context(TERMINAL) as context, ExitStack() as stack:
        bundle = plan_bytes(context, plan)
        put_in_order(context.roots, context.machines, TERMINAL)
        verified = stack.enter_context(admit_plan(context, bundle, image, vsa))
        if attachment.detached:
            click.echo(start_detached(context, verified, name=name, retention=attachment.retention))
            return 0
        return run_here(context, verified, attachment, name=name).finished.exit_code
