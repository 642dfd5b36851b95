"""Removes downloads that no kept build, no kept part and no pin of this installation needs."""

from collections.abc import Iterator

from mvmnix.api import installation
from mvmnix.api.context import Context
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.images.source_gc import SourceGcResult, collect_garbage, sources_of
from mvmnix.keys import Role
from mvmnix.model import Digest
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.slsa.predicate import read_provenance
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import authenticate


def collect_sources(context: Context, *, remove: bool) -> SourceGcResult:
    """Remove them, or only say what would go; with what killed downloads left. All can be fetched again by hash.

    Raises MvmnixError while a build runs, and where a kept build's provenance doesn't verify.
    """
    with context.clearing():
        needed = {*sources_of(_claims(context)), *(source.digest for source in installation.pins())}
        needed |= {part.nar for part in context.part_index.needed()}
        return collect_garbage(context.sources, needed, remove=remove)


def _claims(context: Context) -> Iterator[Provenance]:
    """The provenance of each kept build, authenticated. Raises MvmnixError: unknown needs forbid a removal."""
    for entry in context.library.entries():
        yield _claim(context, entry.bundle, entry.manifest)


def _claim(context: Context, bundle: Digest, manifest: Digest) -> Provenance:
    try:
        data = context.library.bundle(bundle)
        authentic = authenticate(data, trust=context.policy.trust, role=Role.BUILDER, what="a kept build")
        return read_provenance(statement.parse(authentic.payload))
    except RefusedError as refused:
        why = f"the provenance of {manifest} is refused ({', '.join(refused.codes)}): what it needs is not known"
        raise MvmnixError(why, hint=f"mvm image rm {manifest}, or correct the trust policy") from refused
