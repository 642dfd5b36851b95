"""`mvm launch`: starts a machine from a signed plan, once everything it stands on verifies."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import click

from mvmnix.builder.keeping.library import LIMIT, Kept
from mvmnix.builder.keeping.parcel import BUNDLE
from mvmnix.cli.backends import host_for, look_for
from mvmnix.cli.foreground import run_here
from mvmnix.cli.house import House, file_bytes, house
from mvmnix.cli.machine_room import put_in_order
from mvmnix.cli.raw import raw_option
from mvmnix.cli.telling import notice
from mvmnix.cli.verifying import files
from mvmnix.cli.verifying.image import exported
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.launch import signatures
from mvmnix.launch.admission import Submission
from mvmnix.launch.backends.kinds import Backend
from mvmnix.launch.host import Host
from mvmnix.launch.hypervisor.accelerator import described
from mvmnix.launch.hypervisor.port import Acceleration
from mvmnix.launch.records.home import read_status
from mvmnix.launch.steps import plan_of
from mvmnix.launch.supervisor import detach
from mvmnix.launch.verify import VerifiedPlan
from mvmnix.model import Digest
from mvmnix.provenance import statement
from mvmnix.provenance.summary import Summary
from mvmnix.state import Roots


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option("--detach", "-d", "detached", is_flag=True, help="Leave the machine running, and print its id.")
@click.option("--name", default="", help="A name for the machine.")
@raw_option
@click.option(
    "--image", default="", metavar="DIRECTORY", help="Take the image from here, as `mvm build --out` wrote it."
)
@click.option("--vsa", default="", metavar="FILE", help="With --image: a verifier's summary instead of its evidence.")
def launch(*, plan: str, detached: bool, name: str, raw: bool, image: str, vsa: str) -> int:
    """Start a machine from PLAN, a signed plan for an image that was built or found here, or lies in a directory.

    Exit codes: the guest's own; 124 timeout; 125 mvm failed; 126 refused; 127 command not found in the guest.
    """
    bundle = file_bytes(plan, LIMIT)
    with house() as rooms, ExitStack() as stack:
        put_in_order(rooms.roots, rooms.machines)
        verified = stack.enter_context(verified_plan(rooms, bundle, image, vsa))
        if detached:
            click.echo(detached_machine(rooms, verified, name=name))
            return 0
        return run_here(verified, host_for(rooms, verified, notice), name=name, raw=raw).finished.exit_code


@contextmanager
def verified_plan(rooms: House, bundle: bytes, image: str, vsa: str) -> Iterator[VerifiedPlan]:
    """The plan through the gate, for an image that is kept here, or lies in the directory `image`. Raises as the gate.

    UsageError for a summary, `vsa`, without a directory.
    """
    if vsa and not image:
        raise UsageError("--vsa goes with --image", hint="name the directory with the image's files")
    with ExitStack() as stack:
        if image:
            with _handed_in(bundle, Path(image), vsa) as submission:
                verified = stack.enter_context(rooms.admit(submission, notice))
        else:
            verified = stack.enter_context(_kept(rooms, bundle))
        yield verified


def detached_machine(rooms: House, plan: VerifiedPlan, *, name: str = "", created: str = "") -> str:
    """Start a machine that goes on without us, a new one or the one that was `created`; returns its id.

    Says what executes and holds it, which its supervisor, without a terminal, can't.
    """
    look_for(rooms, plan)
    machine = detach(plan, partial(_host_of_its_own, plan.plan.backend), name=name, created=created)
    with suppress(FileNotFoundError), rooms.machines.existing(machine) as home:  # it may be over, and removed
        status = read_status(home, machine)
        if status is not None and status.acceleration:
            notice(described(Acceleration(status.acceleration)))
    return machine


@contextmanager
def _kept(rooms: House, bundle: bytes) -> Iterator[VerifiedPlan]:
    """The plan for an image of the library, through the gate."""
    with ExitStack() as stack:
        with rooms.working():  # until its files are open, nobody may take the image away
            with rooms.recorded(plan=Digest.of(bundle)):
                kept = _image_of(rooms, bundle)
            verified = stack.enter_context(rooms.admitted(bundle, kept, notice))
        yield verified


@contextmanager
def _handed_in(bundle: bytes, directory: Path, vsa: str) -> Iterator[Submission]:
    """What the gate is handed for an image that lies in a directory: all of its evidence, or a verifier's word."""
    with exported(directory) as it:
        if vsa:
            summary = Summary(file_bytes(vsa, LIMIT))
            yield Submission(bundle, summary, it.manifest, None, it.files)
        else:
            provenance = files.read(str(directory / BUNDLE), LIMIT, "name a directory of `mvm build --out`")
            yield Submission(bundle, provenance, it.manifest, it.lock, it.files, it.parts, it.rebuilds)


def _host_of_its_own(backend: Backend) -> Host:
    """What a detached supervisor works with: opened in its own process, since locks don't survive a fork."""
    return House(Roots.from_environment(os.environ)).host(lambda _: None, backend)


def _image_of(rooms: House, bundle: bytes) -> Kept:
    """The kept build that a plan names; the plan is read only after its signature was verified.

    Nothing of the build is believed yet: the gate verifies it, without hashing a rootfs that verity vouches for.
    """
    signed = signatures.gather(bundle, rooms.policy.trust)
    plan = plan_of(statement.parse(signed[0].payload))
    wanted = {subject.name: subject.digest for subject in plan.subjects}.get("manifest.json")
    if wanted is None:
        why, hint = "it names no manifest.json, so it is for no image", "make it with `mvm plan create`"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, hint)
    for entry in rooms.library.entries():
        if (entry.manifest, entry.bundle) == (wanted, plan.provenance):
            return rooms.library.read(entry)
    raise MvmnixError(
        f"the image of this plan isn't kept here: {plan.image}, manifest {wanted}, provenance {plan.provenance}",
        hint="bring it: mvm image load ARCHIVE, or launch with --image DIRECTORY (of `mvm build --out`); a new build "
        "needs a new plan",
    )
