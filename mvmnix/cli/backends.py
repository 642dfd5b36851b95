"""The option `--backend`: puts a backend into a plan, and makes the host that a verified plan's backend needs."""

from collections.abc import Callable
from dataclasses import replace

import click

from mvmnix.api.context import Context
from mvmnix.errors import UsageError
from mvmnix.launch.backends import choice
from mvmnix.launch.backends.kinds import Backend
from mvmnix.launch.host import Host
from mvmnix.launch.plan import Plan
from mvmnix.launch.verify import VerifiedPlan


def _chosen(_context: click.Context, _option: click.Parameter, value: str) -> Backend:
    return Backend(value)


def backend_option[F: Callable[..., object]](command: F) -> F:
    """Give a command the option; it is handed a `Backend`."""
    return click.option(
        "--backend",
        type=click.Choice([each.value for each in Backend]),
        default=Backend.QEMU.value,
        show_default=True,
        callback=_chosen,
        help="What runs it; all but qemu are Preview, and container is not a microVM.",
    )(command)


def on_backend(plan: Plan, backend: Backend) -> Plan:
    """The plan for this backend, with the isolation that it has. Raises UsageError when the two don't go together."""
    try:
        return replace(plan, backend=backend, isolation=backend.isolation)
    except ValueError as error:
        raise UsageError(str(error), hint="choose another --backend or another --accelerator") from error


def told_of_isolation(plan: Plan) -> str:
    """What will hold what the plan starts, as far as the plan says it; one line for people."""
    first, *others = (it.explained for it in plan.boundaries)
    return "; ".join((f"isolation: {first}", *(f"where KVM doesn't work: {it}" for it in others)))


def host_for(rooms: Context, plan: VerifiedPlan, notice: Callable[[str], None]) -> Host:
    """What a machine on the plan's backend is given. A refusal [backend-unavailable] is in the audit log."""
    with rooms.recorded(plan=plan.digest):
        return rooms.host(notice, plan.plan.backend)


def look_for(rooms: Context, plan: VerifiedPlan) -> None:
    """Refuse here, and into the log, what a process of its own could only fail with."""
    with rooms.recorded(plan=plan.digest):
        choice.find(plan.plan.backend)
