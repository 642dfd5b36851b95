"""`mvm store gc`: removes downloads that no kept build, no kept part and no pin of this installation needs."""

import click

from mvmnix.api import collect_sources, open_context
from mvmnix.cli.output import TERMINAL, answer, json_option, tell_freed
from mvmnix.plural import counted


@click.group()
def store() -> None:
    """Tidy the cache of downloads."""


@store.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def gc(dry_run: bool, as_json: bool) -> None:
    """Remove sources that no kept image was built from, and that are neither pins of this installation nor kept parts.

    All of them can be fetched again by their hashes. What killed downloads left goes too.
    """
    with open_context(TERMINAL) as context:
        collected = collect_sources(context, remove=not dry_run)
    if as_json:
        result = {
            "sources": [str(digest) for digest in collected.sources],
            "leftovers": list(collected.leftovers),
            "bytes": collected.size,
            "removed": not dry_run,
        }
        answer("freed", result)
        return
    tell_freed(counted(len(collected.sources), "source"), len(collected.leftovers), collected.size, dry=dry_run)
