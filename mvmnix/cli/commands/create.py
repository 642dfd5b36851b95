"""`mvm create`, `start`: a machine that is verified and registered now, and verified again and started later."""

from dataclasses import replace
from functools import partial

import click

from mvmnix.api import (
    Mode,
    StartOptions,
    create_machine,
    find_created,
    open_context,
    plan_bytes,
    put_in_order,
    run,
    start_created,
)
from mvmnix.cli.attached_run import Attachment, private_option, run_here
from mvmnix.cli.completers import created_machine, file
from mvmnix.cli.option_hints import SignedPlanCommand
from mvmnix.cli.output import TERMINAL, raw_option


@click.command(cls=SignedPlanCommand)
@click.argument("plan", metavar="PLAN|plan:DIGEST", shell_complete=file)
@click.option("--name", default="", help="A name for the machine. Default: two random words.")
@click.option(
    "--image", default="", metavar="DIRECTORY", help="Take the image from here, as `mvm build --out` wrote it."
)
@click.option("--vsa", default="", metavar="FILE", help="With --image: a verifier's summary instead of its evidence.")
@private_option
def create(*, plan: str, name: str, image: str, vsa: str, private: bool) -> None:
    """Make a machine from PLAN, a signed plan as for `mvm launch`, without starting it. Prints its id.

    All is verified as by `mvm launch`, and will be again at the start: nothing is spent, and nothing runs. The image is
    kept until the machine has ended or is removed; one in a DIRECTORY has to be there still.
    """
    with open_context(TERMINAL) as context:
        bundle = plan_bytes(context, plan)
        put_in_order(context.roots, context.machines, TERMINAL)
        options = StartOptions(mode=Mode.CREATED, name=name, image=image, vsa=vsa, private=private)
        click.echo(run(create_machine(context, bundle, options)))


@click.command(cls=SignedPlanCommand)
@click.argument("machine", shell_complete=created_machine)
@click.option("--attach", "-a", is_flag=True, help="Stay, with the command's standard streams and exit code.")
@raw_option
@private_option
def start(*, machine: str, attach: bool, raw: bool, private: bool) -> int:
    """Start MACHINE, which `mvm create` made; leave it running, and print its id.

    Its plan is verified anew, under the policy and the revocations of now. It starts once; secrets are resolved here.
    Exit codes: 125 mvm failed; 126 refused; with --attach also the guest's own, 124 timeout, 127 command not found.
    """
    with open_context(TERMINAL) as context:
        put_in_order(context.roots, context.machines, TERMINAL)
        created, options = find_created(context, machine)
        options = replace(options, private=private)
        if not attach:
            click.echo(run(start_created(context, created, options)).id)
            return 0
        how = Attachment(raw=raw, private=private)
        _, ended = run_here(partial(start_created, context, created), how, replace(options, mode=Mode.ATTACHED))
        return ended.exit_code
