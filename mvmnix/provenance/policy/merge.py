"""Puts the machine's floor and the user's file together: the user's only narrows, and whatever else it does is said.

Pure. Each kind of rule has its own way to be narrower; docs/reference/trust-policy.md lists them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.formats.strict import show_time
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.identity.trust import Revocations, Signer, Trust
from mvmnix.provenance.policy.policy import PolicyFile, TrustPolicy
from mvmnix.provenance.policy.rules import Covered, Freshness, Thresholds
from mvmnix.provenance.trust_toml import show_duration

_NOTHING: Final[Mapping[Digest, bytes]] = MappingProxyType({})
_LOGS: Final = {True: "needs no log", False: "needs another log"}
_ASK: Final = "take it out of your trust.toml, or have the machine's owner add it to the floor"


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """What a policy needs besides its files: both revocations.toml, and trusted_root.json files by their SHA-256."""

    revoked: tuple[RevocationFile | None, RevocationFile | None] = (None, None)
    roots: Mapping[Digest, bytes] = _NOTHING

    @property
    def revocations(self) -> Revocations:
        """What either file revokes."""
        found = Revocations()
        for each in self.revoked:
            found = found if each is None else found | each.revocations
        return found


def combine(
    floor: PolicyFile | None, user: PolicyFile | None, digest: Digest, around: PolicyInputs | None = None
) -> TrustPolicy:
    """The policy of one file, or of a user's file within the floor.

    Raises RefusedError: POLICY_MISSING without any file, POLICY_WIDENS with everything that the user's file adds to
    the floor, ROOT_MISMATCH for pinned roots that are not there, POLICY_EMPTY when nothing is left that could be
    trusted.
    """
    around = around or PolicyInputs()
    only = user or floor
    if only is None:
        hint = (
            "bring one that names whom you trust, as ~/.config/mvmnix/trust.toml or with `mvm verify --policy FILE` "
            "(docs/reference/trust-policy.md); where images are built, the first `mvm run` makes one"
        )
        raise refuse(ReasonCode.POLICY_MISSING, "trust.toml", "there is no trust policy", hint)
    wider = (Reason(ReasonCode.POLICY_WIDENS, "trust.toml", why, _ASK) for why in _widening(user, floor))
    if reasons := (*wider, *_unrooted((floor, user), around.roots)):
        raise RefusedError(*reasons)
    both = [it for it in (floor, user) if it is not None]
    revoked_by_floor, revoked_by_user = around.revoked
    return TrustPolicy(
        trust=Trust(only.signers, around.roots, around.revocations, any(it.require_inclusion for it in both)),
        builders=only.builders,
        sources=tuple(it.sources for it in both),
        isolation=both[0].required_isolation.strongest(both[-1].required_isolation),
        digest=digest,
        expires=min(it.expires for it in both),
        serials=(_serial(floor), _serial(user), _serial(revoked_by_floor), _serial(revoked_by_user)),
        caches=only.caches,
        import_from_derivation=only.import_from_derivation,
        thresholds=Thresholds(max(it.plans or 1 for it in both), max(it.rebuilds or 1 for it in both)),
        freshness=both[0].freshness.stricter(both[-1].freshness),
        verifiers=only.verifiers,
        network_proxy=all(it.network_proxy is not False for it in both),
        unasked_verbs=all(it.unasked_verbs is not False for it in both),
        warm_starts=all(it.warm_starts is not False for it in both),
        imported_snapshots=only.imported_snapshots is True,
    )


def _serial(file: PolicyFile | RevocationFile | None) -> int:
    return 0 if file is None else file.serial


def _unrooted(files: Iterable[PolicyFile | None], roots: Mapping[Digest, bytes]) -> Iterator[Reason]:
    pins = {pin for file in files if file is not None for pin in file.roots}
    for pin in sorted(pins, key=lambda pin: (pin.name, pin.digest)):
        if pin.digest not in roots:
            why = f"no file roots/{pin.name}.json beside trust.toml has {pin.digest}"
            hint = "put the trusted_root.json there that the policy pins; `mvm trusted-root export` writes one"
            yield Reason(ReasonCode.ROOT_MISMATCH, f"the trust root {pin.name!r}", why, hint)


def _widening(user: PolicyFile | None, floor: PolicyFile | None) -> list[str]:
    """What the user's file would allow and the floor does not."""
    if user is None or floor is None:
        return []
    rules = _signers, _rules, _sources, _permissions, _bounds
    return [why for rule in rules for why in rule(user, floor)]


def _covered(user: PolicyFile, floor: PolicyFile) -> Covered:
    return {
        signer.fingerprint: frozenset(other.fingerprint for other in floor.signers if signer.within(other))
        for signer in user.signers
    }


def _signers(user: PolicyFile, floor: PolicyFile) -> Iterator[str]:
    covered = _covered(user, floor)
    for signer in user.signers:
        if not covered[signer.fingerprint]:
            yield f"signer {signer.name!r} {_beyond(signer, floor)}"
    # who counts once in the floor counts once here: thresholds are about signers
    counted = Counter(
        other
        for signer in user.signers
        for other in ({signer.fingerprint} & covered[signer.fingerprint] or covered[signer.fingerprint])
    )
    for signer in floor.signers:
        if counted[signer.fingerprint] > 1:
            yield f"it makes several signers of the floor's {signer.name!r}, who counts once there"
    pinned = {pin.digest for pin in floor.roots}
    yield from (
        f"the trust root {pin.name!r} is not one of the floor's" for pin in user.roots if pin.digest not in pinned
    )


def _beyond(signer: Signer, floor: PolicyFile) -> str:
    """What a signer that the floor does not cover has and the floor's own has not."""
    told: list[str] = []
    for other in floor.signers:
        alike = type(signer.credential) is type(other.credential)
        if alike and replace(signer, roles=other.roles, log=other.log).within(other):
            if more := signer.roles - other.roles:
                told.append(f"has the role {', '.join(sorted(more))}, which the floor's {other.name!r} has not")
            if other.log not in {None, signer.log}:
                told.append(f"{_LOGS[signer.log is None]}, unlike the floor's {other.name!r}")
    return " and ".join(told) or "is none of the floor's"


def _rules(user: PolicyFile, floor: PolicyFile) -> Iterator[str]:
    covered = _covered(user, floor)
    for builder in user.builders:
        if not any(builder.within(other, covered) for other in floor.builders):
            yield f"builder {builder.builder_id!r} is trusted further than in the floor"
    for verifier in user.verifiers:
        if not any(verifier.within(other, covered) for other in floor.verifiers):
            yield f"verifier {verifier.verifier_id!r} is trusted further than in the floor"


def _sources(user: PolicyFile, floor: PolicyFile) -> Iterator[str]:
    if user.sources.allow_local and not floor.sources.allow_local:
        yield "it allows local copies as sources, which the floor does not"
    for original, locked in user.sources.pairs:
        if (original, locked) not in floor.sources.pairs:
            yield f"it pairs {original!r} with {locked!r}, which the floor does not"
    yield from (
        f"the cache key {key.name!r} is not one of the floor's" for key in user.caches if key not in floor.caches
    )
    if user.import_from_derivation and not floor.import_from_derivation:
        yield "it allows import from derivation, which the floor does not"
    if user.require_inclusion is False and floor.require_inclusion:
        yield "it takes a log's promise for its proof, which the floor does not"
    if user.isolation is not None and not user.isolation.suffices(floor.required_isolation):
        yield f"it is content with {str(user.isolation)!r}, the floor requires {str(floor.required_isolation)!r}"


def _permissions(user: PolicyFile, floor: PolicyFile) -> Iterator[str]:
    """The first three are refused by a word, the last one is by silence."""
    for allowed, refused, what in (
        (user.network_proxy, floor.network_proxy is False, "lets plans name a proxy for a guest's network"),
        (user.unasked_verbs, floor.unasked_verbs is False, "lets `mvm run` grant verbs unasked"),
        (user.warm_starts, floor.warm_starts is False, "lets machines start from templates"),
        (user.imported_snapshots, not floor.imported_snapshots, "takes snapshots that other hosts exported"),
    ):
        if allowed and refused:
            yield f"it {what}, which the floor does not"


def _bounds(user: PolicyFile, floor: PolicyFile) -> Iterator[str]:
    """Numbers. What a user's file leaves out is the floor's; what it says must not be looser."""
    if user.expires > floor.expires:
        yield f"it expires at {show_time(user.expires)}, after the floor, which does at {show_time(floor.expires)}"
    for name, ours, theirs in (
        ("signers of a plan", user.plans, floor.plans),
        ("agreeing builds", user.rebuilds, floor.rebuilds),
    ):
        if ours is not None and theirs is not None and ours < theirs:
            yield f"it asks for {ours} {name}, the floor for {theirs}"
    for name, bound, limit in _durations(user.freshness, floor.freshness):
        if bound is not None and limit is not None and bound > limit:
            yield f"it takes {name} up to {show_duration(bound)}, the floor up to {show_duration(limit)}"
    since, least = user.freshness.snapshots_not_before, floor.freshness.snapshots_not_before
    if since is not None and least is not None and since < least:
        yield f"it takes snapshots of {show_time(since)} and later, the floor of {show_time(least)} and later"


def _durations(ours: Freshness, theirs: Freshness) -> Iterator[tuple[str, timedelta | None, timedelta | None]]:
    yield "a build", ours.provenance, theirs.provenance
    yield "a plan's window", ours.plan_window, theirs.plan_window
    yield "a plan's age", ours.plan_age, theirs.plan_age
