"""`mvm pool`: keeps machines waiting, restored and told nothing, so that a start has one at hand."""

from contextlib import ExitStack

import click

from mvmnix.api import (
    MOST_WAITING,
    MachineShape,
    PoolStatus,
    list_pools,
    named_source,
    open_context,
    prepare_pool,
    remove_pools,
    set_pool,
)
from mvmnix.api import run as run_steps
from mvmnix.cli.completers import flake_or_image
from mvmnix.cli.option_hints import HintingGroup
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.options.plan import MEMORY, VCPUS
from mvmnix.cli.output import TERMINAL, table
from mvmnix.cli.progress import steps
from mvmnix.errors import clipped

#: Characters of a reason in a table.
_LONGEST = 60


@click.group(cls=HintingGroup)
def pool() -> None:
    """Keep machines waiting: a start of their image and shape takes one of them."""


@pool.command("set")
@click.argument("flake", metavar="FLAKE[#ATTR]|image:NAME", shell_complete=flake_or_image)
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, MOST_WAITING),
    required=True,
    help=f"How many machines wait: all pools together have at most {MOST_WAITING}.",
)
@VCPUS
@MEMORY
def set_(*, flake: str, count: int, vcpus: int | None, memory_mib: int | None) -> None:
    """Keep machines of FLAKE's image, or of the kept image NAME, waiting, and return once they do.

    Each is verified, logged and started as any other machine, by a plan that the planner signs. The launcher that
    keeps them stays until the pool is removed. Once it is set, Ctrl-C ends the wait alone: the launcher goes on filling
    it.
    """
    shape = MachineShape(vcpus, memory_mib)
    with open_context(TERMINAL) as context, ExitStack() as stack, steps() as progress:
        plans = prepare_pool(context, named_source(context, flake), shape, count, stack, progress=progress)
        status = run_steps(set_pool(context, plans, progress))
    click.echo(status.image)


@pool.command()
@format_options()
def ls(output: OutputFormat) -> None:
    """List the pools, how many machines of each are to wait and how many do."""
    with open_context(TERMINAL) as context:
        found = run_steps(list_pools(context))
    output.show("pools", [_record(each) for each in found], lambda: _show(found))


@pool.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def rm(images: tuple[str, ...]) -> None:
    """End the machines that wait of each IMAGE; those that were claimed go on.

    It is named by its name, or as for `mvm pool set`.
    """
    with open_context(TERMINAL) as context:
        for each in run_steps(remove_pools(context, images)):
            click.echo(each.image)


def _record(pool_: PoolStatus) -> dict[str, object]:
    return {
        "image": pool_.image,
        "vcpus": pool_.vcpus,
        "memoryMiB": pool_.memory_mib,
        "count": pool_.count,
        "waiting": pool_.waiting,
        "why": pool_.why,
        "next": pool_.remedy,
    }


def _show(found: tuple[PoolStatus, ...]) -> None:
    columns = ("IMAGE", "VCPUS", "MEMORY MIB", "COUNT", "WAITING", "WHY NOT")
    rows = [(it.image, str(it.vcpus), str(it.memory_mib), str(it.count), str(it.waiting), _why_not(it)) for it in found]
    table(columns, rows)


def _why_not(pool_: PoolStatus) -> str:
    """Say in one short line why its last machine doesn't wait, and what to do; all of it is in the JSON."""
    return f"{clipped(pool_.why, lines=1, characters=_LONGEST)}; {pool_.remedy}" if pool_.why else "-"
