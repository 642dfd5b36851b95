"""`mvm create`, `start`: a machine that is verified and registered now, and verified again and started later."""

from contextlib import ExitStack
from pathlib import Path

import click

from mvmnix.api.context import Context, open_context
from mvmnix.api.files import file_bytes
from mvmnix.api.machine_store import put_in_order
from mvmnix.builder.keeping.library import LIMIT
from mvmnix.cli.backends import host_for
from mvmnix.cli.foreground import run_here
from mvmnix.cli.launch import detached_machine, verified_plan
from mvmnix.cli.raw import raw_option
from mvmnix.cli.telling import TERMINAL, notice
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.launch.backends.kinds import Backend
from mvmnix.launch.host import now
from mvmnix.launch.records import registry
from mvmnix.launch.records.creation import check_creation
from mvmnix.launch.records.creation import create as create_machine
from mvmnix.launch.records.home import PLAN, read_kept
from mvmnix.launch.records.status import MachineStatus, Origin
from mvmnix.launch.verify import VerifiedPlan
from mvmnix.model import Digest


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option("--name", default="", help="A name for the machine.")
@click.option(
    "--image", default="", metavar="DIRECTORY", help="Take the image from here, as `mvm build --out` wrote it."
)
@click.option("--vsa", default="", metavar="FILE", help="With --image: a verifier's summary instead of its evidence.")
def create(*, plan: str, name: str, image: str, vsa: str) -> None:
    """Make a machine from PLAN, a signed plan, without starting it. Prints its id, for `mvm start`.

    All is verified as by `mvm launch`, and will be again at the start: nothing is spent, and nothing runs. The image is
    kept until the machine has ended or is removed; one in a DIRECTORY has to be there still.
    """
    bundle = file_bytes(plan, LIMIT)
    with open_context(TERMINAL) as rooms, ExitStack() as stack:
        put_in_order(rooms.roots, rooms.machines, TERMINAL)
        stack.enter_context(rooms.working())  # until its machine is there, nobody may take the image away
        verified = stack.enter_context(verified_plan(rooms, bundle, image, vsa))
        _refuse_what_could_not_start(rooms, verified)
        origin = Origin(*(str(Path(path).absolute()) if path else "" for path in (image, vsa)))
        click.echo(create_machine(verified, rooms.machines, rooms.journal, now=now(), name=name, origin=origin))


@click.command()
@click.argument("machine")
@click.option("--attach", "-a", is_flag=True, help="Stay, with the command's standard streams and exit code.")
@raw_option
def start(*, machine: str, attach: bool, raw: bool) -> int:
    """Start MACHINE, which `mvm create` made; leave it running, and print its id.

    Its plan is verified anew, under the policy and the revocations of now. It starts once; secrets are resolved here.
    Exit codes: 125 mvm failed; 126 refused; with --attach also the guest's own, 124 timeout, 127 command not found.
    """
    with open_context(TERMINAL) as rooms, ExitStack() as stack:
        put_in_order(rooms.roots, rooms.machines, TERMINAL)
        status, origin = _waiting(rooms, machine)
        bundle = _plan_of(rooms, status)
        verified = stack.enter_context(verified_plan(rooms, bundle, origin.image, origin.summary))
        if attach:
            host = host_for(rooms, verified, notice)
            return run_here(verified, host, raw=raw, created=status.machine).finished.exit_code
        click.echo(detached_machine(rooms, verified, created=status.machine))
        return 0


def _refuse_what_could_not_start(rooms: Context, verified: VerifiedPlan) -> None:
    """A container, and a plan that was spent. Raises RefusedError, which is in the log."""
    with rooms.recorded(plan=verified.digest):
        if verified.plan.backend is Backend.CONTAINER:
            why, hint = "a container is no machine, and runs in the foreground alone", "run it: `mvm launch`"
            raise refuse(ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend", why, hint)
        rooms.replay(notice).judge(verified.plan)


def _waiting(rooms: Context, machine: str) -> tuple[MachineStatus, Origin]:
    """A machine that wasn't started yet. Raises UsageError."""
    entry = registry.find(rooms.machines, machine)
    origin = entry.status.origin
    if origin is None or not entry.status.waits or entry.alive:
        hint = "mvm start takes what `mvm create` made, once; mvm launch makes another machine from the same plan"
        raise UsageError(f"the machine {machine!r} can't be started: it is {entry.state}", hint=hint)
    return entry.status, origin


def _plan_of(rooms: Context, status: MachineStatus) -> bytes:
    """The bytes that the machine was created from; none of them is believed yet. Raises MvmnixError, RefusedError."""
    bundle = read_kept(rooms.machines, status.machine, PLAN)
    if bundle is None:
        hint = f"remove it: mvm rm {status.machine}"
        raise MvmnixError(f"the plan of machine {status.machine} is gone", hint=hint)
    with rooms.recorded(plan=Digest.of(bundle)):
        check_creation(status, rooms.journal.about(status.machine))
        if Digest.of(bundle) != status.plan:
            why = f"it is not the one that the machine {status.machine} was created from: {status.plan}"
            hint = f"remove that machine, and create another one: mvm rm {status.machine}"
            raise refuse(ReasonCode.PLAN_MISMATCH, "the machine's plan", why, hint)
    return bundle
