"""`mvm launch`: starts a machine from a signed plan, once everything it stands on verifies."""

import os
from contextlib import ExitStack

import click

from mvmnix.builder.keeping.library import LIMIT, Kept
from mvmnix.cli.foreground import notice, run_here
from mvmnix.cli.house import House, file_bytes, house
from mvmnix.cli.plan import plan_of
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.keys import Role
from mvmnix.launch.host import Host
from mvmnix.launch.supervisor import detach
from mvmnix.model import Digest
from mvmnix.provenance import statement
from mvmnix.provenance.authenticate import authenticate
from mvmnix.state import Roots


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option("--detach", "-d", "detached", is_flag=True, help="Leave the machine running, and print its id.")
@click.option("--name", default="", help="A name for the machine.")
def launch(plan: str, detached: bool, name: str) -> int:
    """Start a machine from PLAN, a signed plan for an image that was built or found here.

    Exit codes: the guest's own; 124 timeout; 125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    bundle = file_bytes(plan, LIMIT)
    with house() as rooms, ExitStack() as stack:
        with rooms.working():  # until its files are open, nobody may take the image away
            with rooms.recorded(plan=Digest.of(bundle)):
                kept = _image_of(rooms, bundle)
            verified = stack.enter_context(rooms.admitted(bundle, kept))
        if detached:
            click.echo(detach(verified, _host_of_its_own, name=name))
            return 0
        return run_here(verified, rooms.host(notice), name=name).finished.exit_code


def _host_of_its_own() -> Host:
    """What a detached supervisor works with: opened in its own process, since locks don't survive a fork."""
    return House(Roots.from_environment(os.environ)).host(lambda _: None)


def _image_of(rooms: House, bundle: bytes) -> Kept:
    """The kept build that a plan names; the plan is read only after its signature was verified.

    Nothing of the build is believed yet: the gate verifies it, without hashing a rootfs that verity vouches for.
    """
    authentic = authenticate(bundle, policy=rooms.policy, role=Role.PLANNER, what="the plan")
    plan = plan_of(statement.parse(authentic.payload))
    wanted = {subject.name: subject.digest for subject in plan.subjects}.get("manifest.json")
    if wanted is None:
        why, hint = "it names no manifest.json, so it is for no image", "make it with `mvm plan create`"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, hint)
    for entry in rooms.library.entries():
        if (entry.manifest, entry.bundle) == (wanted, plan.provenance):
            return rooms.library.read(entry)
    raise MvmnixError(
        f"the image of this plan isn't kept here: {plan.image}, manifest {wanted}, provenance {plan.provenance}",
        hint="build it with `mvm build`, and make the plan from that build",
    )
