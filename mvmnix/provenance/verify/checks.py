"""Holds an authentic provenance against files, manifest, lock, policy and time; pure.

Steps 9 to 25 of verify.py, but for step 19.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import lock as flake_lock
from mvmnix.formats.flake_references import differences
from mvmnix.formats.lock import FILE_NAME, LockedFlake, LockedNode, Pair, RelativeNode
from mvmnix.formats.strict import show_time
from mvmnix.model import Artifact, Image, Source
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import LockedInput, Provenance, RootTree, UntouchedNode, subjects_of
from mvmnix.provenance.verify.step_results import NOT_TAKEN, Findings

#: How far two honest clocks, or one that was set in between, may be apart.
SKEW: Final = timedelta(minutes=5)
#: What the reasons call it, and what to do about most of them.
WHAT: Final = "the provenance"
REBUILD: Final = "build the image again: `mvm build --again FLAKE`"
_LOOK: Final = "revocations.toml says why (`mvm policy check`); build it again from what is not revoked"


@dataclass(frozen=True, slots=True)
class Evidence:
    """An authentic claim, and what it is held against: files by their bytes, manifest, lock file, policy, time.

    `inherited` are the sources of the kept parts that it names, None where one of their statements can't be read;
    `unkept` is what is wrong with these statements, and `sbom` the bytes of an SBOM, if one was handed in.
    """

    provenance: Provenance
    statement: Statement
    signer: Signer
    policy: TrustPolicy
    artifacts: tuple[Artifact, ...]
    image: Image
    lock: bytes | None
    now: datetime
    inherited: frozenset[Source] | None = frozenset()
    unkept: tuple[Reason, ...] = ()
    sbom: bytes | None = None

    @property
    def level(self) -> int | None:
        """What the policy grants for this signer, builder and image."""
        return self.policy.level(self.provenance, signer=self.signer, image=self.image.name)


type Step = Callable[[Evidence], Findings]


def step_9_subjects(it: Evidence) -> Iterator[Reason]:
    """9. The four files, by name and digest."""
    yield from subject_differences(it.statement.subjects, it.artifacts, what=WHAT, hint=REBUILD)


def step_10_manifest(it: Evidence) -> Iterator[Reason]:
    """10. The manifest means the same files: their digests and sizes."""
    for artifact in sorted(set(it.image.artifacts) ^ set(it.artifacts)):
        side = "the manifest says" if artifact in it.image.artifacts else "the file has"
        why = f"{side} {artifact.digest}, {artifact.size} bytes"
        yield Reason(ReasonCode.ARTIFACT_MISMATCH, artifact.name, why, REBUILD)


def step_11_builder(it: Evidence) -> Iterator[Reason]:
    """11. The policy admits the builder, for this signer and image."""
    if it.level is None:
        who = f"builder {it.provenance.builder_id!r}, named by {it.signer.name!r},"
        why = f"{who} is not admitted for image {it.image.name!r}"
        hint = "build it with an admitted builder, or add a [[builders]] entry to trust.toml if you mean to"
        yield Reason(ReasonCode.BUILDER_NOT_ADMITTED, WHAT, why, hint)


def step_12_lock(it: Evidence) -> Iterator[Reason]:
    """12. The bytes of flake.lock, or that there are none."""
    found = None if it.lock is None else Digest.of(it.lock)
    if found != it.provenance.lock:
        why = f"the build used {_lock_text(it.provenance.lock)}; what came with it is {_lock_text(found)}"
        yield Reason(ReasonCode.LOCK_MISMATCH, WHAT, why, "hand in the lock file that was built from, or build again")


def step_13_lock_nodes(it: Evidence) -> Iterator[Reason]:
    """13. Lock nodes and trees that were handed in, in both directions."""
    try:
        locked = flake_lock.parse(it.lock)
    except RefusedError as error:
        yield from error.reasons
        return
    inputs = {LockedInput(node.name, node.source) for node in locked.locked}
    untouched = {UntouchedNode(node.name, node.nar) for node in locked.locked}
    relative = {node.name for node in locked.relative}
    nodes = it.provenance.nodes
    for why in (
        *(f"lock node {node.node!r} is not the tree that was handed in" for node in set(nodes.inputs) - inputs),
        *(f"lock node {node.node!r} is not the tree listed as untouched" for node in set(nodes.untouched) - untouched),
        *(f"relative node {name!r} is not accounted for" for name in relative - set(nodes.relative)),
        *(f"{name!r} is not a relative node of the lock" for name in set(nodes.relative) - relative),
        *_unaccounted(
            {node.name for node in locked.locked},
            (*(node.node for node in nodes.inputs), *(node.node for node in nodes.untouched)),
        ),
    ):
        yield Reason(ReasonCode.DEPENDENCY_MISMATCH, WHAT, why, REBUILD)


def _unaccounted(names: Iterable[str], listed: Iterable[str]) -> Iterator[str]:
    counts = Counter(listed)
    for name in sorted(names):
        if counts[name] != 1:
            yield f"lock node {name!r} is accounted for {counts[name]} times"


def step_14_sources(it: Evidence) -> Findings:
    """14. What the manifest says is in the image came in under that URI and digest, or in a part that was kept."""
    known = {(source.uri, source.digest) for source in (*it.provenance.sources, *(it.inherited or ()))}
    # where a kept part's statement can't be read, step 19 refuses for that: what it accounts for isn't known
    for source in () if it.inherited is None else it.image.sources:
        if (source.uri, source.digest) not in known:
            why = f"the image contains {source.uri} ({source.digest}), which is not among the dependencies"
            yield Reason(ReasonCode.DEPENDENCY_MISMATCH, WHAT, why, REBUILD)
    for source, count in Counter(it.provenance.sources).items():
        if count > 1:
            why = f"{source.uri} stands there {count} times"
            yield Reason(ReasonCode.DEPENDENCY_MISMATCH, WHAT, why, REBUILD)
    if it.inherited is None:
        yield NOT_TAKEN


def step_15_root(it: Evidence) -> Iterator[Reason]:
    """15. The flake is one that may be built and run."""
    yield from strange_root(it.provenance.root, it.policy)


def strange_root(root: RootTree, policy: TrustPolicy) -> Iterator[Reason]:
    """Why this flake may not be built and run."""
    for rule in policy.sources:
        why = rule.problem(root)
        if why is not None:
            hint = "commit the flake and build from git, or extend [sources] in trust.toml if you mean to"
            yield Reason(ReasonCode.SOURCE_NOT_ADMITTED, WHAT, why, hint)


def step_16_times(it: Evidence) -> Iterator[Reason]:
    """16. Key mode has no trusted time, but a build from the future shows a wrong clock or a careless forger."""
    yield from untimely(it.provenance, it.now, WHAT)


def untimely(it: Provenance, now: datetime, what: str) -> Iterator[Reason]:
    """Why these cannot be the times of a build."""
    if not it.started <= it.finished <= now + SKEW:
        why = f"the build ran from {show_time(it.started)} to {show_time(it.finished)}, and now it is {show_time(now)}"
        yield Reason(ReasonCode.BUILD_TIME, what, why, "set the clock; if it is right, build the image again")


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


def step_22_originals(it: Evidence) -> Findings:
    """22. Nix trusts a lock file, whatever flake.nix asked for. One that can't be read was refused by step 13."""
    try:
        locked = flake_lock.parse(it.lock)
    except RefusedError:
        yield NOT_TAKEN
        return
    yield from substituted_nodes(locked, it.policy.pairs)


def step_23_fresh(it: Evidence) -> Iterator[Reason]:
    """23. What was built long ago lacks what was mended since."""
    yield from stale(it.provenance, it.policy, it.now, WHAT)


def stale(it: Provenance, policy: TrustPolicy, now: datetime, what: str) -> Iterator[Reason]:
    """Why this build is too old for the policy."""
    bound = policy.freshness.provenance
    if bound is not None and now - it.finished > bound:
        ended, here = show_time(it.finished), show_time(now)
        why = f"the build ended at {ended}, and now it is {here}; the policy accepts at most {bound}"
        yield Reason(ReasonCode.PROVENANCE_STALE, what, why, REBUILD)


def step_24_not_revoked(it: Evidence) -> Iterator[Reason]:
    """24. The files of the image, and those of the image that built it."""
    yield from revoked(it.artifacts, it.policy, it.image.name)
    yield from revoked_builder(it.provenance, it.policy, WHAT)


def revoked(artifacts: Iterable[Artifact], policy: TrustPolicy, name: str) -> Iterator[Reason]:
    """Which of these files are revoked."""
    revocations = policy.trust.revocations
    for artifact in artifacts:
        if artifact.digest in revocations.digests:
            why = f"its {artifact.name} ({artifact.digest}) {revocations.words(artifact.digest)}"
            yield Reason(ReasonCode.IMAGE_REVOKED, f"the image {name!r}", why, _LOOK)


def revoked_builder(it: Provenance, policy: TrustPolicy, what: str) -> Iterator[Reason]:
    """Which files of the image that built are revoked: then so is what it built."""
    revocations = policy.trust.revocations
    for subject in it.builder_image:
        if subject.digest in revocations.digests:
            said = revocations.words(subject.digest)
            why = f"the {subject.name} of the image that built it ({subject.digest}) {said}"
            yield Reason(ReasonCode.IMAGE_REVOKED, what, why, _LOOK)


def step_25_policy(it: Evidence) -> Iterator[Reason]:
    """25. An expired policy decides nothing."""
    yield from it.policy.expired(it.now)


def subject_differences(
    subjects: Iterable[Subject], artifacts: Iterable[Artifact], *, what: str, hint: str
) -> Iterator[Reason]:
    """How the files that a claim is about differ from these, one SUBJECT_MISMATCH for each name."""
    claimed = {subject.name: subject.digest for subject in subjects}
    found = {subject.name: subject.digest for subject in subjects_of(artifacts)}
    for name in sorted(claimed.keys() | found.keys()):
        if claimed.get(name) != found.get(name):
            said, seen = claimed.get(name, "nothing"), found.get(name, "no business here")
            why = f"for {name} it names {said}, the file has {seen}"
            yield Reason(ReasonCode.SUBJECT_MISMATCH, what, why, hint)


def _lock_text(digest: Digest | None) -> str:
    return "no flake.lock" if digest is None else f"flake.lock {digest}"


def substituted_nodes(lock: LockedFlake, pairs: Sequence[Pair] = ()) -> Iterator[Reason]:
    """Every node that was locked to another place than it names as its original, and that no pair admits.

    Nix trusts a lock file: with an exchanged `locked`, an input that reads `github:NixOS/nixpkgs` can be any tree.
    """
    nodes: tuple[LockedNode | RelativeNode, ...] = (*lock.locked, *lock.relative)
    for node in nodes:
        found = list(_node_differences(node))
        if found and not any(fnmatchcase(node.original, asked) and fnmatchcase(node.uri, got) for asked, got in pairs):
            why = f"it asks for {node.original} and is locked to {node.uri}: {'; '.join(found)}"
            hint = "lock the flake again, or pair the two in the policy, if that is meant"
            yield Reason(ReasonCode.LOCK_SUBSTITUTED, f"{FILE_NAME}: node {node.name!r}", why, hint)


def _node_differences(node: LockedNode | RelativeNode) -> Iterator[str]:
    yield from differences(node.asked.place, node.place)
    if node.asked.directory != node.directory:
        yield f"dir {node.asked.directory!r} became {node.directory!r}"
