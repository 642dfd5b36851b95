"""`mvm system`: the room on the disk that mvm takes, and what can be given back."""

import click

from mvmnix.api import collect_sources, measure_disk, open_context, prune_images
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.output import MIB, TERMINAL, table, tell_freed
from mvmnix.plural import counted


@click.group()
def system() -> None:
    """Show the room on the disk that mvm takes, and give back what can be."""


@system.command()
@format_options()
def df(output: OutputFormat) -> None:
    """Print how much room each directory of mvm's takes: images, machines, logs, downloads.

    `mvm system prune --dry-run` says how much of it nothing needs.
    """
    found = measure_disk()
    records = [{"root": it.root, "path": it.path, "files": it.files, "bytes": it.size} for it in found]
    rows = [(it.root, str(it.files), f"{it.size / MIB:.1f} MiB", it.path) for it in found]
    output.show("disk", records, lambda: table(("ROOT", "FILES", "SIZE", "PATH"), rows))


@system.command()
@click.option("--all", "-a", "every", is_flag=True, help="Finished images too that no machine and no plan needs.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(*, every: bool, dry_run: bool) -> None:
    """Remove files that no image needs, and downloads: `mvm image prune`, then `mvm store gc`.

    Machines that have ended stay, with their logs and receipts, until `mvm rm` removes them.
    """
    with open_context(TERMINAL) as context:
        freed = prune_images(context, every=every, before=None, remove=not dry_run)
        for digest in freed.builds:
            click.echo(str(digest))
        collected = collect_sources(context, remove=not dry_run)
    removed = f"{counted(len(freed.files), 'file')} and {counted(len(collected.sources), 'source')}"
    leftovers = len(freed.leftovers) + len(collected.leftovers)
    tell_freed(removed, leftovers, freed.size + collected.size, dry=dry_run)
