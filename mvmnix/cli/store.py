"""`mvm store gc`: removes downloads that no kept build, no kept part and no pin of this installation needs."""

from collections.abc import Iterator

import click

from mvmnix.builder.keeping.collect import collect, needed_by
from mvmnix.cli import installed
from mvmnix.cli.house import House, house
from mvmnix.cli.telling import answer, tell_freed
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.keys import Role
from mvmnix.model import Digest
from mvmnix.plural import counted
from mvmnix.provenance import statement
from mvmnix.provenance.authenticate import authenticate
from mvmnix.provenance.predicate import from_statement
from mvmnix.provenance.slsa import Provenance


@click.group()
def store() -> None:
    """Tidy the cache of downloads."""


@store.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(dry_run: bool, as_json: bool) -> None:
    """Remove sources that no kept image was built from, and that are neither pins of this installation nor kept parts.

    All of them can be fetched again by their hashes. What killed downloads left goes too.
    """
    with house() as rooms, rooms.clearing():
        needed = {*needed_by(_claims(rooms)), *(source.digest for source in installed.pins())}
        needed |= {part.nar for part in rooms.part_book.needed()}
        collected = collect(rooms.sources, needed, remove=not dry_run)
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


def _claims(rooms: House) -> Iterator[Provenance]:
    """What each kept build says of itself, authenticated. Raises MvmnixError: else nobody would know what it needs."""
    for entry in rooms.library.entries():
        yield _claim(rooms, entry.bundle, entry.manifest)


def _claim(rooms: House, bundle: Digest, manifest: Digest) -> Provenance:
    try:
        data = rooms.library.bundle(bundle)
        authentic = authenticate(data, trust=rooms.policy.trust, role=Role.BUILDER, what="a kept build")
        return from_statement(statement.parse(authentic.payload))
    except RefusedError as refused:
        why = f"the provenance of {manifest} is refused ({', '.join(refused.codes)}): nobody knows what it needs"
        raise MvmnixError(why, hint=f"mvm image rm {manifest}, or correct the trust policy") from refused
