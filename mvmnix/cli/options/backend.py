"""The option `--backend`, and how a plan's isolation is shown."""

from collections.abc import Callable

import click

from mvmnix.api import Backend, Plan


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
        help="What runs it. container is Preview, no microVM; firecracker and cloud-hypervisor are Planned: refused.",
    )(command)


def isolation_line(plan: Plan) -> str:
    """What will hold what the plan starts, as far as the plan says it; one line for people."""
    first, *others = (it.explained for it in plan.boundaries)
    return "; ".join((f"isolation: {first}", *(f"where KVM doesn't work: {it}" for it in others)))
