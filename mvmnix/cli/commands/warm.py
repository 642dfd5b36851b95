"""`mvm warm`: makes, lists and removes templates, from which machines start in a tenth of the time of a boot."""

from typing import override

import click

from mvmnix.api import (
    MOST_SHARES,
    MachineShape,
    Retention,
    StartOptions,
    TemplateRecord,
    list_templates,
    make_template,
    named_source,
    open_context,
    remove_templates,
)
from mvmnix.cli.attached_run import private_option
from mvmnix.cli.completers import flake_or_image
from mvmnix.cli.option_hints import refuse_absent
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.options.plan import MEMORY, VCPUS
from mvmnix.cli.output import MIB, TERMINAL, table
from mvmnix.cli.progress import steps
from mvmnix.formats.strict import show_time
from mvmnix.plural import counted


class _WarmGroup(click.Group):
    """Takes what is none of its commands for an image: `mvm warm IMAGE` is `mvm warm make IMAGE`.

    Raises UsageError for a command that other tools have.
    """

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            refuse_absent(f"{ctx.command_path} {args[0]}")
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_WarmGroup, subcommand_metavar="IMAGE | COMMAND [ARGS]...")
def warm() -> None:
    """Make templates: machines of the same image and shape start from one, and don't boot.

    `mvm warm IMAGE` is `mvm warm make IMAGE`, with its options: IMAGE is FLAKE[#ATTR] or image:NAME.
    """


@warm.command()
@click.argument("flake", metavar="FLAKE[#ATTR]|image:NAME", shell_complete=flake_or_image)
@VCPUS
@MEMORY
@click.option("--network", is_flag=True, help="For machines with a network.")
@click.option(
    "--shares",
    type=click.IntRange(0, MOST_SHARES),
    default=0,
    metavar="N",
    help="For machines with N read-only shares, each small enough for an image. Default: none.",
)
@click.option("--data", is_flag=True, help="For machines with a data disk, of any size.")
@private_option
def make(
    *, flake: str, vcpus: int | None, memory_mib: int | None, network: bool, shares: int, data: bool, private: bool
) -> None:
    """Make a template of FLAKE's image, or of the kept image NAME, in the place of an older one; print its machine.

    A machine of its own boots for it, by a plan that the planner signs, and is saved before it is told anything.
    """
    shape = MachineShape(vcpus, memory_mib, network, shares, data)
    options = StartOptions(retention=Retention.LAST, private=private)
    with open_context(TERMINAL) as context:
        with steps() as progress:
            ended = make_template(context, named_source(context, flake), shape, options, progress)
        click.echo(ended.machine)


@warm.command()
@format_options()
def ls(output: OutputFormat) -> None:
    """List the templates that are kept, the last used one first. Those that are of no use any more are removed."""
    with open_context(TERMINAL) as context:
        found = list_templates(context)
    records = [
        {
            "key": str(kept.record.key),
            "image": kept.record.image,
            "vcpus": kept.record.vcpus,
            "memoryMiB": kept.record.memory_mib,
            "network": kept.record.network,
            "shares": kept.record.images,
            "data": kept.record.data,
            "machine": kept.record.machine,
            "made": show_time(kept.record.made),
            "size": kept.size,
        }
        for kept in found
    ]
    columns = ("KEY", "IMAGE", "VCPUS", "MEMORY MIB", "DEVICES", "MACHINE", "MADE", "SIZE MIB")
    rows = [
        (
            kept.record.key.hex[:12],
            kept.record.image,
            str(kept.record.vcpus),
            str(kept.record.memory_mib),
            _devices(kept.record),
            kept.record.machine,
            show_time(kept.record.made),
            f"{kept.size / MIB:.0f}",
        )
        for kept in found
    ]
    output.show("templates", records, lambda: table(columns, rows))


def _devices(template: TemplateRecord) -> str:
    """What its machines have beside the root's disk."""
    shares = (counted(template.images, "share"),) if template.images else ()
    others = (name for name, has_it in (("network", template.network), ("data disk", template.data)) if has_it)
    return ", ".join((*shares, *others)) or "-"


@warm.command()
@click.argument("templates", nargs=-1, required=True, metavar="TEMPLATE...")
def rm(templates: tuple[str, ...]) -> None:
    """Remove each TEMPLATE: one, by at least 8 digits of its key, or all of an image. Machines go on.

    An image is named by its name, or as for `mvm warm`.
    """
    with open_context(TERMINAL) as context:
        for key in remove_templates(context, templates):
            click.echo(key)
