"""Counts who agrees for a threshold: each build once, each signer once, by key or certified identity; pure.

And the rule of step 26 of verify.py, which counts builders.
"""

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.model import Digest
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify.authentication import Attested, Authentic
from mvmnix.provenance.verify.checks import WHAT


class Quorum:
    """Those that were counted so far. A key counts once too, under whatever names it signed."""

    def __init__(self) -> None:
        self._signers: set[Digest] = set()
        self._keys: dict[Digest, str] = {}
        self._builds: set[str] = set()

    def __len__(self) -> int:
        return len(self._signers)

    def count(self, it: Authentic | Attested, builds: AbstractSet[str] = frozenset()) -> str:
        """Count it, for a build that has these names; returns why it doesn't count, "" where it does."""
        name, key = repr(it.signer.name), it.spki
        if builds & self._builds:
            return "it is of a build that is counted already"
        if it.signer.fingerprint in self._signers:
            return f"{name} is counted already"
        if key in self._keys:
            return f"{name} and {self._keys[key]} signed with the same key, {key}"
        self._signers.add(it.signer.fingerprint)
        self._keys[key] = name
        self._builds |= builds
        return ""


#: A provenance that verified, and what was established of its signature.
type Told = tuple[Provenance, Authentic]


def disagreement(
    first: Told, others: Iterable[bytes], *, wanted: int, alone: Callable[[bytes], Told]
) -> Iterator[Reason]:
    """Why fewer than `wanted` builders have built this alike; each counts once, by its key or identity.

    `alone` takes a bundle through all the steps that the first one took, for the same files, and raises RefusedError;
    what it refuses does not count. Nor does a statement of another build, or of one that is counted already.
    """
    built, signed = first
    quorum, doubts = Quorum(), list[str]()
    quorum.count(signed, {built.invocation})
    for bundle in others:
        if len(quorum) >= wanted:
            return
        try:
            claim, authentic = alone(bundle)
        except RefusedError as error:
            doubts.append(f"{Digest.of(bundle)}: {', '.join(error.codes)}")
            continue
        if _build(claim) != _build(built):
            doubts.append(f"{authentic.digest}: it is of another tree, lock, attribute or derivation")
        elif why := quorum.count(authentic, {claim.invocation}):
            doubts.append(f"{authentic.digest}: {why}")
    if len(quorum) < wanted:
        rest = f"; what does not count: {'; '.join(doubts)}" if doubts else ""
        why = f"only {len(quorum)} of the {wanted} required builders produced the same image{rest}"
        hint = "have it built by another builder, and hand in its provenance: `mvm image testify`"
        yield Reason(ReasonCode.REBUILDS_MISSING, WHAT, why, hint)


def _build(claim: Provenance) -> tuple[object, ...]:
    return (claim.root.nar, claim.directory, claim.attribute, claim.lock, claim.derivation)
