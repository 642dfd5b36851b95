"""Holds an authentic provenance against files, manifest, lock, policy and time: steps 9 to 16 of verify.py; pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mvmnix import lock as flake_lock
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.model import Artifact, Digest, Image, Source
from mvmnix.provenance.bundle import Statement, Subject
from mvmnix.provenance.identity import Signer
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.slsa import LockedInput, Provenance, RootTree, UntouchedNode, subjects_of
from mvmnix.strict import show_time

#: How far two honest clocks, or one that was set in between, may be apart.
SKEW: Final = timedelta(minutes=5)
#: What the reasons call it, and what to do about most of them.
WHAT: Final = "the provenance"
REBUILD: Final = "build the image again: `mvm build --again FLAKE`"


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


type Step = Callable[[Evidence], Iterator[Reason]]


def step_9_subjects(it: Evidence) -> Iterator[Reason]:
    """9. The four files, by name and digest."""
    yield from differences(it.statement.subjects, it.artifacts, what=WHAT, hint=REBUILD)


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
        *(f"{name!r} is no relative node of the lock" for name in set(nodes.relative) - relative),
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


def step_14_sources(it: Evidence) -> Iterator[Reason]:
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


def differences(
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
