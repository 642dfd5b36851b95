"""Holds what came into a build against the policy: steps 17 to 22 of verify.py, but for step 19; pure."""

from collections import Counter
from collections.abc import Iterator

from mvmnix import lock as flake_lock
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.model import Digest
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify.checks import REBUILD, WHAT, Evidence


def step_17_inputs(it: Evidence) -> Iterator[Reason]:
    """17. The trees that evaluation was given come from where the policy allows; untouched ones came from nowhere."""
    yield from strange_inputs(it.provenance, it.policy)


def strange_inputs(it: Provenance, policy: TrustPolicy) -> Iterator[Reason]:
    """Which trees that were handed in are locked to places that the policy does not admit."""
    for node in it.nodes.inputs:
        if not policy.admits_input(node.source.uri):
            why = f"lock node {node.node!r} is locked to {node.source.uri}, which no pattern of inputs matches"
            hint = "lock it to another place, or extend inputs in [sources] of trust.toml if you mean to"
            yield Reason(ReasonCode.INPUT_NOT_ADMITTED, WHAT, why, hint)


def step_18_cached(it: Evidence) -> Iterator[Reason]:
    """18. A binary cache is trusted for its key, and not for its address."""
    yield from strange_caches(it.provenance, it.policy, WHAT)


def strange_caches(it: Provenance, policy: TrustPolicy, what: str) -> Iterator[Reason]:
    """The paths from binary caches that the policy does not admit, or that are listed twice."""
    known = {key.text for key in policy.caches}
    for key in sorted({each.key for each in it.cached} - known):
        paths = sorted(str(each.path) for each in it.cached if each.key == key)
        why = f"{len(paths)} store paths, such as {paths[0]}, stand on the cache key {key!r}, which the policy lacks"
        hint = "build without that cache, or add its key as [[caches]] to trust.toml if you mean to"
        yield Reason(ReasonCode.CACHE_NOT_ADMITTED, what, why, hint)
    for path, count in Counter((*(each.path for each in it.cached), *(each.path for each in it.kept))).items():
        if count > 1:
            yield Reason(ReasonCode.DEPENDENCY_MISMATCH, what, f"{path} stands there {count} times", REBUILD)


def step_20_evaluation(it: Evidence) -> Iterator[Reason]:
    """20. What evaluation asks for after it read what was built can tell others what it read."""
    yield from built_by_evaluation(it.provenance, it.policy, WHAT)


def built_by_evaluation(it: Provenance, policy: TrustPolicy, what: str) -> Iterator[Reason]:
    """Why this evaluation had more power than the policy gives it."""
    if it.from_derivation and not policy.import_from_derivation:
        why = "evaluation was allowed to build, and to read what it built"
        hint = "build without it, or set import-from-derivation = true in [evaluation] of trust.toml if you mean to"
        yield Reason(ReasonCode.IMPORT_FROM_DERIVATION, what, why, hint)


def step_21_sbom(it: Evidence) -> Iterator[Reason]:
    """21. The SBOM that was handed in is the one that was made with the image."""
    if it.sbom is not None and Digest.of(it.sbom) != it.provenance.sbom:
        why = f"it names the SBOM {it.provenance.sbom or 'not at all'}, and this one is {Digest.of(it.sbom)}"
        yield Reason(ReasonCode.SBOM_MISMATCH, WHAT, why, REBUILD)


def step_22_originals(it: Evidence) -> Iterator[Reason]:
    """22. Nix trusts a lock file, whatever flake.nix asked for. One that can't be read was refused by step 13."""
    try:
        locked = flake_lock.parse(it.lock)
    except RefusedError:
        return
    yield from flake_lock.mismatches(locked, it.policy.pairs)
