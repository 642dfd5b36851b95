"""`mvm launch`: starts a machine from a signed plan, once everything it stands on verifies."""

from functools import partial

import click

from mvmnix.api import open_context, plan_bytes, put_in_order, run, start_machine
from mvmnix.cli.attached_run import Attachment, attach_options, run_here, start_options
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
    with open_context(TERMINAL) as context:
        bundle = plan_bytes(context, plan)
        put_in_order(context.roots, context.machines, TERMINAL)
        options = start_options(attachment, name=name, image=image, vsa=vsa)
        if attachment.detached:
            click.echo(run(start_machine(context, bundle, options)).id)
            return 0
        _, ended = run_here(partial(start_machine, context, bundle), attachment, options)
        return ended.exit_code
