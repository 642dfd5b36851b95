"""Creates machines that are started later, and admits the plan of such a machine once it is to start."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mvmnix.api.context import Context
from mvmnix.api.gate import open_replay
from mvmnix.api.launch import admit_plan
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.machines import registry
from mvmnix.launch.machines.machine_dir import PLAN, read_kept
from mvmnix.launch.machines.status import MachineSource, MachineStatus
from mvmnix.launch.plan.backend import Backend
from mvmnix.launch.runtime.creation import check_creation
from mvmnix.launch.runtime.creation import create_home as register
from mvmnix.model import Digest


def create_machine(context: Context, bundle: bytes, *, name: str = "", image: str = "", vsa: str = "") -> str:
    """Admit a signed plan, and register a machine for it that doesn't run yet; returns its id. Nothing is spent.

    `image` and `vsa` are as in `admit_plan`. Raises RefusedError, once it is in the log.
    """
    with context.working(), admit_plan(context, bundle, image, vsa) as verified:  # until then no image is removed
        _refuse_what_could_not_start(context, verified)
        origin = MachineSource(*(str(Path(path).absolute()) if path else "" for path in (image, vsa)))
        return register(verified, context.machines, context.journal, now=now(), name=name, origin=origin)


@contextmanager
def admit_created(context: Context, machine: str) -> Iterator[tuple[VerifiedPlan, str]]:
    """The plan of a created machine, verified anew, and the machine's id; its files are closed at the end.

    Raises UsageError for a machine that can't be started; RefusedError, once it is in the log.
    """
    status, origin = _waiting(context, machine)
    with admit_plan(context, _plan_of(context, status), origin.image, origin.summary) as verified:
        yield verified, status.machine


def _refuse_what_could_not_start(context: Context, verified: VerifiedPlan) -> None:
    """A container, and a plan that was spent. Raises RefusedError, which is in the log."""
    with context.recorded(plan=verified.digest):
        if verified.plan.backend is Backend.CONTAINER:
            why, hint = "a container is not a machine, and runs in the foreground alone", "run it: `mvm launch`"
            raise refuse(ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend", why, hint)
        open_replay(context, context.frontend.notice).judge(verified.plan)


def _waiting(context: Context, machine: str) -> tuple[MachineStatus, MachineSource]:
    """A machine that wasn't started yet. Raises UsageError."""
    entry = registry.find_machine(context.machines, machine)
    origin = entry.status.origin
    if origin is None or not entry.status.waits or entry.alive:
        hint = "mvm start takes what `mvm create` made, once; mvm launch makes another machine from the same plan"
        raise UsageError(f"the machine {machine!r} can't be started: it is {entry.state}", hint=hint)
    return entry.status, origin


def _plan_of(context: Context, status: MachineStatus) -> bytes:
    """The bytes that the machine was created from; none of them is trusted yet. Raises MvmnixError, RefusedError."""
    bundle = read_kept(context.machines, status.machine, PLAN)
    if bundle is None:
        hint = f"remove it: mvm rm {status.machine}"
        raise MvmnixError(f"the plan of machine {status.machine} is gone", hint=hint)
    with context.recorded(plan=Digest.of(bundle)):
        check_creation(status, context.journal.about(status.machine))
        if Digest.of(bundle) != status.plan:
            why = f"it is not the one that the machine {status.machine} was created from: {status.plan}"
            hint = f"remove that machine, and create another one: mvm rm {status.machine}"
            raise refuse(ReasonCode.PLAN_MISMATCH, "the machine's plan", why, hint)
    return bundle
