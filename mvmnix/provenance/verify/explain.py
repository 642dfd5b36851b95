"""Says which rules of a policy admit something, and which do not, without looking at any file; pure.

What it finds is never trusted: who starts or passes something verifies it. The refusals are the verifier's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mvmnix.errors import Reason
from mvmnix.formats.strict import show_time
from mvmnix.plural import counted
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.rules import BuilderRule, builder_manifest
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.trust_toml import show_duration
from mvmnix.provenance.verify import checks

_WHAT = "the provenance"


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """What one rule says; None where it neither admits nor refuses."""

    rule: str
    admits: bool | None
    text: str


def rule_owners(policy: TrustPolicy) -> tuple[str, ...]:
    """Whose trust.toml each of the policy's source rules is from."""
    machine, user, *_ = policy.serials
    return (*(("the machine's",) if machine else ()), *(("the user's",) if user else ()))


def of_source(uri: str, policy: TrustPolicy) -> Iterator[RuleFinding]:
    """What the policy says of a flake by its URI, as a root tree: `path:…` for a local copy, `git+…` for a commit."""
    for owner, rule in zip(rule_owners(policy), policy.sources, strict=True):
        if uri.startswith("path:") and not rule.allow_local:
            yield RuleFinding("sources", False, f"{owner} trust.toml does not allow local copies")
            continue
        pattern = rule.matching(uri)
        said = f"matches none of {', '.join(rule.patterns)}" if pattern is None else f"matches {pattern!r}"
        yield RuleFinding("sources", pattern is not None, f"{uri} {said} of {owner} trust.toml")


def of_input(uri: str, policy: TrustPolicy) -> Iterator[RuleFinding]:
    """What the policy says of a tree that a node of flake.lock is locked to."""
    for owner, rule in zip(rule_owners(policy), policy.sources, strict=True):
        pattern = rule.matching_input(uri)
        said = f"matches none of {', '.join(rule.inputs)}" if pattern is None else f"matches {pattern!r}"
        yield RuleFinding("inputs", pattern is not None, f"{uri} {said} of {owner} trust.toml")


def of_signer(signer: Signer) -> RuleFinding:
    """Who signed."""
    kind = "a certified identity" if signer.key is None else f"the key {signer.fingerprint}"
    return RuleFinding("signers", True, f"{signer.name!r}, {kind}, may sign as {', '.join(sorted(signer.roles))}")


def of_build(it: Provenance, signer: Signer, policy: TrustPolicy, *, image: str | None) -> Iterator[RuleFinding]:
    """Which rules a provenance meets. Without the image's name, rules that are for some images are said to be so."""
    yield of_signer(signer)
    yield from _builders(it, signer, policy, image)
    yield from of_source(it.root.uri, policy)
    for node in it.nodes.inputs:
        yield from of_input(node.source.uri, policy)
    known = {key.text for key in policy.caches}
    for key in sorted({each.key for each in it.cached}):
        yield RuleFinding(
            "caches", key in known, f"{counted(sum(each.key == key for each in it.cached), 'path')} under {key}"
        )
    if it.from_derivation:
        yield RuleFinding("evaluation", policy.import_from_derivation, "evaluation was allowed to build")
    bound = policy.freshness.provenance
    said = "any age will do" if bound is None else f"the policy accepts at most {show_duration(bound)}"
    yield RuleFinding("freshness", None, f"built at {show_time(it.finished)}; {said}")
    if policy.thresholds.rebuilds > 1:
        yield RuleFinding("thresholds", None, f"{policy.thresholds.rebuilds} builders have to agree, this one counts")


def _builders(it: Provenance, signer: Signer, policy: TrustPolicy, image: str | None) -> Iterator[RuleFinding]:
    ran = builder_manifest(it)
    who = f"{it.builder_id} by {signer.name!r}" + ("" if ran is None else f", running {ran}")
    found = False
    for rule in policy.builders:
        asked = image if image is not None else next(iter(sorted(rule.images)), "")
        if rule.admits(it, signer=signer.fingerprint, image=asked):
            found = True
            yield RuleFinding("builders", True, f"{who}: level {rule.level} at most, for {_images(rule)}")
    if not found:
        what = "any image" if image is None else f"image {image!r}"
        yield RuleFinding("builders", False, f"{who}: no rule trusts that for {what}")


def _images(rule: BuilderRule) -> str:
    return f"the images {', '.join(sorted(rule.images))}" if rule.images else "every image"


def refusals(it: Provenance, policy: TrustPolicy, now: datetime) -> tuple[Reason, ...]:
    """What a provenance is refused for whatever its files are; its signer's builder rules apart."""
    return (
        *checks.strange_root(it.root, policy),
        *checks.untimely(it, now, _WHAT),
        *checks.strange_inputs(it, policy),
        *checks.strange_caches(it, policy, _WHAT),
        *checks.built_by_evaluation(it, policy, _WHAT),
        *checks.stale(it, policy, now, _WHAT),
        *checks.revoked_builder(it, policy, _WHAT),
        *policy.expired(now),
    )
