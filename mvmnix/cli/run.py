"""`mvm run`: build or reuse, sign, plan, verify, launch, stream, and exit as the guest did."""

from contextlib import ExitStack

import click

from mvmnix.cli.evidence import Chain
from mvmnix.cli.foreground import notice, run_here
from mvmnix.cli.house import house
from mvmnix.cli.plan import plan_for
from mvmnix.cli.references import existing
from mvmnix.cli.workshop import workshop
from mvmnix.keys import Role
from mvmnix.launch import plan as plans


@click.command()
@click.argument("flake", metavar="FLAKE[#ATTR]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", default="", help="A name for the machine.")
@click.option("--evidence", is_flag=True, help="Print the chain of evidence when the machine has ended.")
def run(flake: str, command: tuple[str, ...], name: str, evidence: bool) -> int:
    """Run FLAKE's image in a microVM, and COMMAND in it instead of its own if one is given after --.

    Exit codes: the guest's own; 124 timeout; 125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    wanted = existing(flake)
    with house() as rooms, ExitStack() as stack:
        rooms.settle_in(notice)
        with rooms.working():  # until its files are open, nobody may take the image away
            with workshop(rooms) as shop:
                finished = shop.image(wanted)
            bundle = rooms.sign(Role.PLANNER, plans.to_statement(plan_for(rooms, finished, command)).to_bytes())
            verified = stack.enter_context(rooms.admitted(bundle, finished))
        done = run_here(verified, rooms.host(notice), name=name)
        if evidence:
            Chain(finished, verified, done).show()
        return done.finished.exit_code
