"""Reads signed plans, from files or as they are kept here; lists the kept ones, and removes them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mvmnix.api.context import Context
from mvmnix.api.files import file_bytes
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import RefusedError, UsageError
from mvmnix.provenance.bundle.statement import STATEMENT_LIMIT
from mvmnix.words import Words, check_words

if TYPE_CHECKING:
    from mvmnix.plan.plan import Plan

#: How a kept plan is named where a file could be.
KEPT_SCHEME: Final = "plan:"
#: How many candidates a message lists.
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """A kept plan by the digest of its bytes, one bundle or several, with the names of its signers.

    `plan` is None where this policy or this version doesn't understand it: which image it needs is unknown then.
    """

    digest: Digest
    plan: "Plan | None" = None
    signers: tuple[str, ...] = ()

    @property
    def image(self) -> tuple[Digest, Digest] | None:
        """The manifest and the provenance of the image that it is for, where that is known."""
        return None if self.plan is None or self.plan.manifest is None else (self.plan.manifest, self.plan.provenance)

    @property
    def has_expired(self) -> bool:
        """Whether it starts nothing any more, and so needs nothing."""
        return self.plan is not None and self.plan.window.not_after <= now()


def kept_plans(context: Context) -> tuple[KeptPlan, ...]:
    """All plans that are kept, in the order of their digests."""
    return tuple(_read(context, digest) for digest in context.plans.digests())


def list_plans(context: Context) -> tuple[KeptPlan, ...]:
    """The same, while none is removed."""
    with context.working():
        return kept_plans(context)


def remove_plans(context: Context, texts: Words) -> tuple[Digest, ...]:
    """Remove the copies of the plans with these digests, or that begin so: they keep no image from now on.

    A copy of the plan elsewhere stays valid. Raises UsageError, before any is removed, where there is no such plan
    or more than one, MvmnixError while an image is made or used.
    """
    texts = check_words(texts)
    with context.clearing():
        digests = tuple(context.plans.digests())
        gone = tuple(dict.fromkeys(_chosen(digests, text) for text in texts))
        for digest in gone:
            context.plans.remove(digest)
        return gone


def plan_bytes(context: Context, text: str) -> bytes:
    """A signed plan, not verified: the kept one with the digest behind `plan:`, or else the file of that path.

    Raises UsageError.
    """
    if not text.startswith(KEPT_SCHEME):
        return file_bytes(text, STATEMENT_LIMIT)
    with context.working():  # none is removed meanwhile
        digest = _chosen(context.plans.digests(), text.removeprefix(KEPT_SCHEME))
        return context.plans.read(digest, limit=STATEMENT_LIMIT)


def drop_expired(context: Context) -> None:
    """Remove the copies of plans that have expired."""
    for kept in kept_plans(context):
        if kept.has_expired:
            context.plans.remove(kept.digest)
    context.plans.sweep()


def plans_for(context: Context, manifest: Digest) -> Iterator[bytes]:
    """The plans that were signed here for the image with this manifest, as they were signed, one bundle or several."""
    for kept in kept_plans(context):
        if kept.image is not None and kept.image[0] == manifest:
            yield context.plans.read(kept.digest, limit=STATEMENT_LIMIT)


def _read(context: Context, digest: Digest) -> KeptPlan:
    try:
        return read_kept(context, digest, context.plans.read(digest, limit=STATEMENT_LIMIT))
    except RefusedError:  # its bytes aren't those of its name
        return KeptPlan(digest)


def read_kept(context: Context, digest: Digest, data: bytes) -> KeptPlan:
    """Return what a plan that is kept says, by these bytes of that digest: its window and verification don't count."""
    from mvmnix.launch.gate.verify import read_plan  # noqa: PLC0415 - a plan that is handed on isn't read here

    try:
        it = read_plan(data, context.policy)
        return KeptPlan(digest, it.plan, tuple(each.signer.name for each in it.signed))
    except RefusedError:
        return KeptPlan(digest)


def _chosen(known: Iterable[Digest], text: str) -> Digest:
    from mvmnix.images.prune import SHORTEST  # noqa: PLC0415 - a plan in a file doesn't pay for it

    start = text.removeprefix("sha256:")
    digests = [digest for digest in known if len(start) >= SHORTEST and digest.hex.startswith(start)]
    if len(digests) != 1:
        which = f"{len(digests)} kept plans have" if digests else "no kept plan has"
        candidates = f": {', '.join(digest.hex[:12] for digest in digests[:_SHOWN])}" if digests else ""
        why = f"{which} a digest that begins with {text!r} ({SHORTEST} digits or more){candidates}"
        raise UsageError(why, hint="mvm plan ls lists them")
    return digests[0]
