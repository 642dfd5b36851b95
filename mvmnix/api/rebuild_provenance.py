"""Takes in other builders' provenance of a kept image, and counts the builders that agree."""

from collections.abc import Sequence
from dataclasses import dataclass

from mvmnix.api.context import Context
from mvmnix.api.files import file_bytes
from mvmnix.clock import now
from mvmnix.errors import RefusedError
from mvmnix.images.prune import KeptImages
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import STATEMENT_LIMIT
from mvmnix.model import Digest
from mvmnix.provenance.verify.quorum import Quorum


@dataclass(frozen=True, slots=True)
class RebuildSigners:
    """Who built an image alike: the builders that a launch counts, the bundles of the rebuilds, how many it wants."""

    manifest: Digest
    builders: tuple[str, ...]
    rebuilds: tuple[Digest, ...]
    wanted: int


def add_rebuilds(context: Context, digest: str, paths: Sequence[str]) -> RebuildSigners:
    """Keep further provenance of the image whose manifest has this digest, or begins with it, once each verifies.

    Each file of `paths` has one bundle or several, a line each. Raises RefusedError, which is logged, for one that
    doesn't verify, UsageError for no file.
    """
    bundles = [bundle for path in paths for bundle in file_bytes(path, STATEMENT_LIMIT).split(b"\n")]
    with context.working(), context.recorded():
        kept, moment = RebuildStore(context.roots.state), now()
        ((_, entry), *_) = KeptImages(context.library).find(digest)
        first = context.library.open(entry, policy=context.policy, now=moment)
        for bundle in bundles:
            kept.keep(first, bundle, policy=context.policy, now=moment)
        each = (it for _, it in kept.each(first, policy=context.policy, now=moment))
        seen = [it for it in each if not isinstance(it, RefusedError)]
        quorum = Quorum()
        builders = (
            it.signer.name for it in (first.provenance, *seen) if not quorum.count(it.authentic, {it.claim.invocation})
        )
        return RebuildSigners(
            first.image.manifest.digest,
            tuple(sorted(builders)),
            tuple(it.bundle for it in seen),
            context.policy.thresholds.rebuilds,
        )
