"""Removes sources that are not needed from the cache of downloads; each of them can be fetched again by its hash."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from mvmnix.model import Digest
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.store import Store


@dataclass(frozen=True, slots=True)
class SourceGcResult:
    """What was removed, or would be: sources, what died writers left, and bytes in all."""

    sources: tuple[Digest, ...]
    leftovers: tuple[str, ...]
    size: int


def sources_of(claims: Iterable[Provenance]) -> Iterator[Digest]:
    """What these builds were made from, as far as it is kept by its hash: to build them again without a network."""
    for claim in claims:
        yield from (source.digest for source in claim.sources)
        yield from (node.source.digest for node in claim.nodes.inputs)
        yield from (path.nar for path in claim.cached)
        yield from (path.nar for path in claim.kept)


def collect_garbage(sources: Store, needed: Collection[Digest], *, remove: bool = True) -> SourceGcResult:
    """Remove all other sources. The caller holds the lock that keeps builds and downloads out."""
    gone = tuple(digest for digest in sources.digests() if digest not in needed)
    size = sum(map(sources.weight, gone))
    if remove:
        for digest in gone:
            sources.remove(digest)
    leftovers = sources.sweep(remove=remove)
    return SourceGcResult(gone, tuple(sorted(leftovers)), size + sum(leftovers.values()))
