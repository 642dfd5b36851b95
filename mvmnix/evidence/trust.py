"""Draws the trust policy in force, and says of a signed bundle who signed it and by which credential; pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from mvmnix.audit.record import Serials
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.evidence.graph import Node, NodeKind, Verdict, refused, unverified, verified
from mvmnix.formats.strict import show_time
from mvmnix.provenance.identity.trust import Identity, Signer
from mvmnix.provenance.policy.policy import SERIAL_FILES, TrustPolicy
from mvmnix.provenance.verify.authentication import Authentic

#: The key of the policy's node.
POLICY: Final = "policy"


def policy_node(
    policy: TrustPolicy, now: datetime, latest: Serials | MvmnixError | None, clock: MvmnixError | None = None
) -> Node:
    """The policy that everything is verified under: the judge, which stands because of where it was read from.

    `latest` are the serials that the audit log saw last, if any, or why it can't tell; `clock` why `now` can't be
    relied on, if it can't.
    """
    since = policy.freshness.snapshots_not_before
    facts = (
        ("serials", ", ".join(f"{name} {number}" for name, number in zip(SERIAL_FILES, policy.serials, strict=True))),
        ("expires", show_time(policy.expires)),
        ("thresholds", f"{policy.thresholds.plans} for plans, {policy.thresholds.rebuilds} for builds"),
        *((f"signer {each.name}", _credential(each)) for each in policy.signers),
        *(_builder(policy)),
        ("cache keys", ", ".join(key.name for key in policy.caches) or "none"),
        ("snapshots", "no bound" if since is None else f"of {show_time(since)} and later"),
        ("isolation", str(policy.isolation)),
        ("network proxies", "allowed" if policy.network_proxy else "refused"),
        ("unasked verbs", "allowed" if policy.unasked_verbs else "refused"),
        ("warm starts", "allowed" if policy.warm_starts else "refused"),
        ("imported snapshots", "allowed" if policy.imported_snapshots else "refused"),
    )
    return Node(
        POLICY, NodeKind.POLICY, "trust.toml", _verdict(policy, now, latest, clock), str(policy.digest), "", facts
    )


def _verdict(
    policy: TrustPolicy, now: datetime, latest: Serials | MvmnixError | None, clock: MvmnixError | None
) -> Verdict:
    seen = None if isinstance(latest, MvmnixError) else latest
    if reasons := [*policy.expired(now), *policy.rolled_back(seen)]:
        return refused(reasons)
    if clock is not None:
        return unverified(f"whether it has expired can't be told: {_first(clock)}")
    if isinstance(latest, MvmnixError):
        return unverified(f"whether it is older than the one seen last can't be told: {_first(latest)}")
    return verified("in force: neither expired nor rolled back, from files that only their owner and root can change")


def _first(error: MvmnixError) -> str:
    """What is wrong, in one line."""
    return f"{error.reasons[0].what}: {error.reasons[0].why}" if isinstance(error, RefusedError) else error.message


def _credential(signer: Signer) -> str:
    roles = ", ".join(sorted(signer.roles))
    match signer.credential:
        case Identity(subject, issuer):
            return f"{roles}; {subject.text}, certified by {issuer.text}"
        case key:
            return f"{roles}; key {key.fingerprint}"


def _builder(policy: TrustPolicy) -> Iterator[tuple[str, str]]:
    for rule in policy.builders:
        images = ", ".join(sorted(rule.images)) or "every image"
        yield "admits", f"{rule.builder_id} up to L{rule.level}, for {images}"


def signing(it: Authentic) -> Iterator[tuple[str, str]]:
    """Who signed, as facts."""
    yield "signed by", f"{it.signer.name} ({_credential(it.signer)})"
    if it.identity is not None:
        subject, issuer = it.identity
        yield "certified as", f"{subject}, by {issuer}"
    yield "seen by a log", "no log, no trusted time" if it.time is None else show_time(it.time)
