"""`mvm run`: build or reuse, sign, plan, verify, launch, stream, and exit with the guest's exit code."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import click

from mvmnix.api import (
    PlanOptions,
    RunningMachine,
    StartOptions,
    Steps,
    check_terminal,
    open_context,
    prepare_run,
    runnable_ref,
    start_machine,
)
from mvmnix.api import run as run_steps
from mvmnix.cli.attached_run import Attachment, attach_options, run_here, start_options
from mvmnix.cli.completers import flake_or_image
from mvmnix.cli.evidence_table import links_of, show_chain
from mvmnix.cli.option_hints import PlanningCommand
from mvmnix.cli.options.plan import plan_options
from mvmnix.cli.output import TERMINAL, notice
from mvmnix.cli.progress import steps
from mvmnix.errors import UsageError
from mvmnix.model import Verb

_EXAMPLES: Final = """
\b
Examples:
  mvm run ./examples/hello
  mvm run -it -m 1g --allow https://api.example.com ./guest -- sh
  mvm run -d --name web -p 8080:80 -v ./site:/srv/site ./web
"""


@click.command(cls=PlanningCommand, epilog=_EXAMPLES)
@click.argument("flake", metavar="FLAKE[#ATTR]|image:NAME", shell_complete=flake_or_image)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@attach_options
@click.option("--name", default="", help="A name for the machine. Default: two random words.")
@plan_options
@click.option(
    "--no-verbs",
    "closed",
    is_flag=True,
    help="Grant no verb. Default without --verb: exec, shell and copy, as far as the image offers them; none in a "
    "guest that gets secrets.",
)
@click.option("--evidence", is_flag=True, help="Print the chain of evidence when the machine has ended.")
def run(*, flake: str, attachment: Attachment, name: str, options: PlanOptions, closed: bool, evidence: bool) -> int:
    """Run FLAKE's image, or the kept image NAME, in a microVM; and COMMAND there instead of its own, given after --.

    Its options beside --detach and its like are written into the plan that is made and signed for this run.

    Exit codes: the guest's own; 124 timeout; 125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    _refuse_contradictions(attachment, options, closed=closed, evidence=evidence)
    wanted = runnable_ref(flake)
    unasked = not (options.verbs or closed)
    if attachment.tty:  # a terminal takes the verb, and the plan says so
        check_terminal(options.backend, options.secrets)
        options = replace(options, verbs=options.verbs | {Verb.SHELL})
    with open_context(TERMINAL) as context, ExitStack() as kept:
        context.initialize()
        with steps() as progress:
            prepared = prepare_run(context, wanted, options, kept, progress, grants_unasked=unasked)
        _show_unasked(prepared.unasked)

        def start(how: StartOptions) -> Steps[RunningMachine]:
            machine = yield from start_machine(context, prepared.bundle, how)
            kept.close()
            return machine

        how = start_options(attachment, name=name)
        if attachment.detached:
            click.echo(run_steps(start(how)).id)
            return 0
        started, ended = run_here(start, attachment, how)
        if evidence:
            show_chain(links_of(prepared.finished, started, ended))
        return ended.exit_code


def _refuse_contradictions(attachment: Attachment, options: PlanOptions, *, closed: bool, evidence: bool) -> None:
    """Raises UsageError for options that exclude each other."""
    if attachment.detached and evidence:
        raise UsageError("--evidence is of a machine that has ended", hint="leave it out, and `mvm show MACHINE` later")
    if closed and (options.verbs or attachment.tty):
        why = "--no-verbs grants none, and --verb and -t ask for some"
        raise UsageError(why, hint="leave it out: --verb grants what it names and no other, -t then shell, too")


def _show_unasked(verbs: frozenset[Verb]) -> None:
    """Say which verbs the plan grants unasked."""
    if verbs:
        *others, last = sorted(verbs)
        names = f"{', '.join(others)} and {last}" if others else last
        notice(f"the plan grants {names}, to this user alone; --no-verbs grants none")
