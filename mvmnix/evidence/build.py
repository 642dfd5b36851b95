"""Draws the evidence of a kept build: the image's files, what vouches for them, and what they were built from; pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.evidence.check import Checked, check, check_parts
from mvmnix.evidence.graph import (
    Draft,
    EdgeKind,
    Node,
    NodeKind,
    NodeStatus,
    Verdict,
    refused,
    unverified,
    verdict_of,
    verified,
    whole,
)
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.evidence.trust import POLICY, signing
from mvmnix.formats.strict import show_time
from mvmnix.images.store import VerifiedImage
from mvmnix.model import Artifact, Image, Source
from mvmnix.plural import counted
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import HOST_NIX, MICROVM, KeptPath, Provenance
from mvmnix.provenance.verify.checks import REBUILD, subject_differences
from mvmnix.provenance.verify.verify import Verified

_LISTED: Final = "the signed provenance lists it by this digest"


def add_origin(draft: Draft, it: Checked, *, policy: TrustPolicy, now: datetime, at: str) -> None:
    """Add all that came into a build; `at` stands before each key."""
    if it.stored.lock is not None:
        draft.add(_lock(it, it.stored.lock, at))
    statements = [draft.add(_statement(document, policy, now, at)) for document in it.stored.parts]
    if it.claim is None:
        draft.add(Node(f"{at}tree", NodeKind.TREE, "unknown: no trusted provenance names it", unverified(_unknown(it))))
        return
    derivation = draft.add(_derivation(it, it.claim, at))
    tree = draft.add(_tree(it, it.claim, at))
    draft.add_edges(derivation, EdgeKind.BUILT_FROM, tree)
    if it.stored.lock is None and it.claim.lock is not None:
        draft.add(_missing_lock(it, it.claim.lock, at))
    draft.add_edges(tree, EdgeKind.LOCKED_BY, f"{at}lock")
    for group in _lock_nodes(it, it.claim, at):
        draft.add_edges(f"{at}lock", EdgeKind.NAMES, draft.add(group))
        if group.kind is NodeKind.INPUTS:
            draft.add_edges(derivation, EdgeKind.BUILT_FROM, group.key)
    for group in _arrivals(it, it.claim, at):
        draft.add_edges(derivation, EdgeKind.BUILT_FROM, draft.add(group))
        if group.kind is NodeKind.KEPT:
            draft.add_edges(group.key, EdgeKind.LISTED_IN, *statements)


def _unknown(it: Checked) -> str:
    return it.doubt or "the provenance says nothing that can be read"


def flake_name(claim: Provenance) -> str:
    """What was built, as a flake reference."""
    mark = "&" if "?" in claim.root.uri else "?"
    where = f"{mark}dir={claim.directory}" if claim.directory else ""
    return f"{claim.root.uri}{where}#{claim.attribute}"


def _tree(it: Checked, claim: Provenance, at: str) -> Node:
    verdict = it.verdict(NodeKind.TREE, "the source rules of the trust policy admit it, by URI and commit (step 15)")
    commit = claim.root.commit or "none: a local copy"
    facts = (("commit", commit), ("NAR hash", claim.root.nar.sri))
    return Node(f"{at}tree", NodeKind.TREE, flake_name(claim), verdict, str(claim.root.nar), it.signer, facts)


def _lock(it: Checked, document: StoredDocument, at: str) -> Node:
    what = "its bytes are those that were built from, and each node is accounted for (steps 12, 13, 22)"
    verdict = it.document(NodeKind.LOCK, document, what)
    return Node(f"{at}lock", NodeKind.LOCK, "flake.lock", verdict, str(document.digest), it.signer)


def _missing_lock(it: Checked, digest: Digest, at: str) -> Node:
    verdict = it.verdict(NodeKind.LOCK, "the signed provenance names it")
    return Node(f"{at}lock", NodeKind.LOCK, "flake.lock", verdict, str(digest), it.signer)


def _group(it: Checked, kind: NodeKind, at: str, members: Iterable[Node], noun: str) -> Node:
    """Several of a kind as one node, whose verdict is about the list; each member has its own. It gives keys."""
    key = f"{at}{kind.name.lower()}"
    found = tuple(replace(member, key=f"{key}/{number}") for number, member in enumerate(members))
    what = "none is listed twice, and the list is the signed one (steps 13, 14, 18)"
    name = f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"
    return Node(key, kind, name, it.verdict(kind, what), "", it.signer, (), found)


def _lock_nodes(it: Checked, claim: Provenance, at: str) -> Iterable[Node]:
    def node(name: str, what: str, digest: str = "", facts: tuple[tuple[str, str], ...] = ()) -> Node:
        return Node("", NodeKind.INPUT, name, it.verdict(NodeKind.INPUT, what), digest, it.signer, facts)

    handed, idle = "locked to this, and handed in as this tree (steps 13, 17)", "locked to this, and never handed in"
    inside = "a relative path, which the digest of the tree covers (step 13)"
    nodes = claim.nodes
    if nodes.inputs:
        members = (node(each.node, handed, str(each.source.digest), _uri(each.source)) for each in nodes.inputs)
        yield _group(it, NodeKind.INPUTS, at, members, "node")
    if nodes.untouched:
        members = (node(each.node, f"{idle} (step 13)", str(each.nar)) for each in nodes.untouched)
        yield _group(it, NodeKind.UNTOUCHED, at, members, "node")
    if nodes.relative:
        yield _group(it, NodeKind.RELATIVE, at, (node(name, inside) for name in nodes.relative), "node")


def _uri(source: Source) -> tuple[tuple[str, str], ...]:
    return (("from", source.uri),)


def _arrivals(it: Checked, claim: Provenance, at: str) -> Iterable[Node]:
    if claim.sources:
        members = _sources(claim.sources, it.verdict(NodeKind.SOURCE, _LISTED), it.signer, "")
        yield _group(it, NodeKind.SOURCES, at, members, "file")
    if claim.kept:
        yield _group(it, NodeKind.KEPT, at, (_part(it, each) for each in claim.kept), "store path")
    if claim.cached:
        what = "a cache's key that the trust policy knows vouches for it (step 18)"
        members = (
            Node(
                "",
                NodeKind.PATH,
                each.path.name,
                it.verdict(NodeKind.PATH, what),
                str(each.nar),
                each.key if it.evidence else "",
                (("store path", str(each.path)), ("from", each.uri)),
            )
            for each in claim.cached
        )
        yield _group(it, NodeKind.CACHED, at, members, "store path")


def _sources(sources: Iterable[Source], verdict: Verdict, signer: str, at: str) -> Iterable[Node]:
    for number, each in enumerate(sources):
        facts = (*_uri(each), ("store path", str(each.store_path)), ("hashed as", str(each.mode)))
        yield Node(f"{at}source/{number}", NodeKind.SOURCE, each.name, verdict, str(each.digest), signer, facts)


def _part(it: Checked, part: KeptPath) -> Node:
    verdict = it.verdict(NodeKind.PART, "a signed parts statement lists it by this digest (step 19)")
    facts = (("store path", str(part.path)), ("parts statement", str(part.bundle)))
    return Node("", NodeKind.PART, part.path.name, verdict, str(part.nar), it.signer, facts)


def _statement(document: StoredDocument, policy: TrustPolicy, now: datetime, at: str) -> Node:
    key, name, digest = f"{at}parts/{document.digest.hex}", "mvm's own modules", str(document.digest)
    found = check_parts(document, policy=policy, now=now)
    if isinstance(found, MvmnixError):
        return Node(key, NodeKind.PARTS_STATEMENT, name, verdict_of(found), digest)
    build, signer = found.claim.provenance, found.signer.name
    verdict = verified("every step for a parts statement passed")
    facts = (
        ("parts", str(len(found.claim.parts))),
        ("level", f"SLSA Build L{found.level}"),
        ("tree", f"{build.root.uri} {build.root.nar}"),
        ("builder", build.builder_id),
        ("built", f"{show_time(build.started)} to {show_time(build.finished)}"),
    )
    members = tuple(_sources(build.sources, verified("the parts statement lists it by this digest"), signer, f"{key}/"))
    return Node(key, NodeKind.PARTS_STATEMENT, name, verdict, digest, signer, facts, members)


def _derivation(it: Checked, claim: Provenance, at: str) -> Node:
    what = "the signed provenance names it; evaluation had no more power than the trust policy gives (step 20)"
    name = "not named" if claim.derivation is None else claim.derivation.name
    powers = "may build, and read what it built" if claim.from_derivation else "builds nothing"
    facts = [("store path", str(claim.derivation))] if claim.derivation is not None else []
    facts += [("evaluation", powers), ("mvm", claim.versions.mvm), ("Nix", claim.versions.nix)]
    return Node(
        f"{at}derivation", NodeKind.DERIVATION, name, it.verdict(NodeKind.DERIVATION, what), "", it.signer, tuple(facts)
    )


def stands(verdict: Verdict) -> bool:
    """Whether it was verified."""
    return verdict.standing is NodeStatus.VERIFIED


#: What rebuilds testify of an image that verified: each bundle's digest in hexadecimal, and what came of verifying it.
type RebuildEvidence = Callable[[VerifiedImage], Iterable[tuple[str, Verified[Provenance] | RefusedError]]]


def no_rebuild_evidence(_: VerifiedImage) -> Iterable[tuple[str, Verified[Provenance] | RefusedError]]:
    """It was not rebuilt."""
    return ()


@dataclass(frozen=True, slots=True)
class Judge:
    """By what evidence is judged: the trust policy in force, a time with its zone, and who may tell of rebuilds."""

    policy: TrustPolicy
    now: datetime
    rebuild_evidence: RebuildEvidence = no_rebuild_evidence


def add_build(draft: Draft, stored: StoredBuild, judge: Judge, *, at: str = "") -> str:
    """Add an image with all its evidence; returns the image's key. `at` stands before the keys of this build alone."""
    return _add(draft, check(stored, policy=judge.policy, now=judge.now), judge, at)


def _add(draft: Draft, it: Checked, judge: Judge, at: str) -> str:
    image = draft.add(_image(it))
    _add_files(draft, it, image)
    provenance = draft.add(_provenance(it, at))
    draft.add_edges(image, EdgeKind.ATTESTED_BY, provenance)
    draft.add_edges(image, EdgeKind.BUILT_BY, f"{at}derivation")
    draft.add_edges(provenance, EdgeKind.VERIFIED_UNDER, POLICY)
    if it.stored.sbom is not None:
        what = "it is the one that the signed provenance names (step 21)"
        sbom = Node(
            f"{at}sbom",
            NodeKind.SBOM,
            "CycloneDX",
            it.document(NodeKind.SBOM, it.stored.sbom, what),
            str(it.stored.sbom.digest),
            it.signer,
        )
        draft.add_edges(image, EdgeKind.CONTENTS_IN, draft.add(sbom))
    add_origin(draft, it, policy=judge.policy, now=judge.now, at=at)
    _add_builder(draft, it, judge, at)
    _add_rebuilds(draft, it, judge, image, at)
    return image


def _image(it: Checked) -> Node:
    digest, key = str(it.stored.manifest.digest), "image"
    if isinstance(it.image, MvmnixError):
        return Node(key, NodeKind.IMAGE, "manifest.json", verdict_of(it.image), digest)
    image, what = it.image, "its manifest is a subject of the signed provenance (steps 9, 10)"
    facts = (
        ("size", f"{sum(artifact.size for artifact in image.artifacts)} bytes"),
        ("posture", str(image.posture)),
        ("verbs", ", ".join(sorted(image.verbs)) or "none"),
        ("command", " ".join(image.workload.argv)),
        ("kernel command line", image.command_line),
    )
    verdict = _with_files(it, image, it.verdict(NodeKind.IMAGE, what))
    return Node(key, NodeKind.IMAGE, image.name, verdict, digest, it.signer, facts)


def _with_files(it: Checked, image: Image, own: Verdict) -> Verdict:
    """An image stands no better than the worst of its files: a reader of its line alone is not told otherwise."""
    files = {each.name: _file_verdict(it, each) for each in (image.kernel, image.initrd, image.rootfs)}
    files["verity root"] = _verity_verdict(it)
    if reasons := [*own.reasons, *(reason for each in files.values() for reason in each.reasons)]:
        return refused(reasons)
    doubts = [f"its {name}: {each.why}" for name, each in files.items() if not stands(each)]
    return unverified("; ".join(doubts)) if doubts and stands(own) else own


def _add_files(draft: Draft, it: Checked, image: str) -> None:
    if isinstance(it.image, MvmnixError):
        return
    for artifact in (it.image.kernel, it.image.initrd, it.image.rootfs):
        size = (("size", f"{artifact.size} bytes"),)
        verdict = _file_verdict(it, artifact)
        node = Node(
            f"file/{artifact.name}", NodeKind.FILE, artifact.name, verdict, str(artifact.digest), it.signer, size
        )
        draft.add_edges(image, EdgeKind.CONSISTS_OF, draft.add(node))
    tree = it.image.verity
    facts = (
        ("salt", tree.salt.hex() or "none"),
        ("UUID", tree.uuid),
        ("data blocks", f"{tree.data_blocks} of {tree.BLOCK} bytes"),
    )
    node = Node("verity", NodeKind.VERITY, "dm-verity", _verity_verdict(it), str(tree.root), it.signer, facts)
    draft.add_edges("file/rootfs", EdgeKind.GUARDED_BY, draft.add(node))


def _file_verdict(it: Checked, artifact: Artifact) -> Verdict:
    """A file has the bytes of the manifest, and a signer vouches for the manifest."""
    found = it.stored.files.get(artifact.name)
    match found:
        case None:
            return unverified("it was not looked at")
        case Artifact() if found != artifact:
            said = f"the manifest says {artifact.digest}, {artifact.size} bytes"
            why = f"{said}; the file has {found.digest}, {found.size} bytes"
            return refused([Reason(ReasonCode.ARTIFACT_MISMATCH, artifact.name, why, REBUILD)])
        case Artifact():
            return it.verdict(
                NodeKind.FILE, "every byte hashed just now; a subject of the signed provenance (steps 9, 10)"
            )
        case MvmnixError():
            return verdict_of(found)


def _verity_verdict(it: Checked) -> Verdict:
    found = it.stored.verity
    if isinstance(found, MvmnixError):
        return verdict_of(found)
    what = "size, superblock and top hash block of the rootfs are those of this root, which the manifest signs"
    return refused(found) if found else it.verdict(NodeKind.VERITY, what)


def _provenance(it: Checked, at: str) -> Node:
    digest, name = str(it.stored.bundle.digest), "SLSA v1"
    if it.stored.bundle.problem is not None:
        return Node(f"{at}provenance", NodeKind.PROVENANCE, name, verdict_of(it.stored.bundle.problem), digest)
    verdict = it.verdict(
        NodeKind.PROVENANCE, "signature, role and every step of docs/explanation/verification.md passed"
    )
    facts = [*signing(it.authentic)] if it.authentic else []
    if it.evidence is not None:
        facts.append(("level", f"SLSA Build L{it.evidence.level}"))
    if it.claim is not None:
        facts += [
            ("builder", it.claim.builder_id),
            ("built", f"{show_time(it.claim.started)} to {show_time(it.claim.finished)}"),
            ("invocation", it.claim.invocation),
        ]
    signer = it.authentic.signer.name if it.authentic else ""
    return Node(f"{at}provenance", NodeKind.PROVENANCE, name, verdict, digest, signer, tuple(facts))


def _add_builder(draft: Draft, it: Checked, judge: Judge, at: str) -> None:
    """What built: admitted by the policy for this signer and image; its own evidence, where its image is kept here."""
    if it.claim is None:
        return
    claim = it.claim
    verdict = it.verdict(NodeKind.BUILDER, "the trust policy admits this builder for this signer and image (step 11)")
    names = {MICROVM: "offline microVM", HOST_NIX: "the host's own Nix"}
    digests = {subject.name: str(subject.digest) for subject in claim.builder_image}
    facts = [("id", claim.builder_id)]
    facts += [(name, digest) for name, digest in digests.items() if name != "manifest.json"]
    if claim.limits is not None:
        limits = claim.limits
        processors, seconds = counted(limits.vcpus, "processor"), counted(limits.seconds, "second")
        facts.append(("means", f"{processors}, {limits.memory_mib} MiB, {seconds}"))
    members: tuple[Node, ...] = ()
    if it.stored.builder is not None and not at.endswith("builder/"):
        members = _own_evidence(it, it.stored.builder, judge, f"{at}builder/")
    elif claim.builder_image:
        facts.append(("its own evidence", "its image isn't kept here"))
    node = Node(
        f"{at}builder",
        NodeKind.BUILDER,
        names.get(claim.builder_id, claim.builder_id),
        verdict,
        digests.get("manifest.json", ""),
        it.signer,
        tuple(facts),
        members,
    )
    draft.add_edges(f"{at}derivation", EdgeKind.BUILT_BY, draft.add(node))


def _own_evidence(it: Checked, builder: StoredBuild, judge: Judge, at: str) -> tuple[Node, ...]:
    """The evidence of the builder's image as one node beneath it, that holds all the others."""
    inner, its = Draft(), check(builder, policy=judge.policy, now=judge.now)
    _add(inner, its, Judge(judge.policy, judge.now), at)
    image = builder.image
    reasons: tuple[Reason, ...] = ()
    if isinstance(image, Image) and it.claim is not None:
        hint = "find out which builder that was; build the image again"
        what = "the builder's image"
        reasons = tuple(subject_differences(it.claim.builder_image, image.artifacts, what=what, hint=hint))
    nodes = tuple(_renamed(node, at) for node in inner.nodes.values())
    stored = [node for node in nodes if not all(stands(each.verdict) for each in whole(node))]
    if reasons:
        verdict = refused(reasons)
    elif stored:
        verdict = unverified(f"not all of it holds: {', '.join(f'{n.kind} {n.name}' for n in stored)[:400]}")
    else:
        verdict = verified("it was taken through all steps, like the image's own")
    name = "a kept build" if its.claim is None else flake_name(its.claim)
    return (Node(f"{at}evidence", NodeKind.EVIDENCE, name, verdict, str(builder.bundle.digest), "", (), nodes),)


def _renamed(node: Node, at: str) -> Node:
    """A node under a key that no other build has."""
    return node if node.key.startswith(at) else replace(node, key=f"{at}{node.key}")


def _add_rebuilds(draft: Draft, it: Checked, judge: Judge, image: str, at: str) -> None:
    if it.evidence is None or isinstance(it.image, MvmnixError) or it.stored.bundle.data is None:
        return
    for bundle, found in judge.rebuild_evidence(VerifiedImage(it.image, it.stored.evidence, it.evidence)):
        key, name, digest = f"{at}rebuild/{bundle}", "a second build", f"sha256:{bundle}"
        if isinstance(found, MvmnixError):
            node = Node(key, NodeKind.REBUILD, name, verdict_of(found), digest)
        else:
            varied, what = found.claim.variation, "its own provenance passed every step, for the same four files"
            facts = [("level", f"SLSA Build L{found.level}"), ("built", show_time(found.claim.finished))]
            if varied is not None:
                facts.append(("made to see", f"host name {varied.hostname}, clock {varied.clock_offset:+} seconds"))
            node = Node(key, NodeKind.REBUILD, name, verified(what), digest, found.signer.name, tuple(facts))
        draft.add_edges(image, EdgeKind.BUILT_AGAIN, draft.add(node))
        draft.add_edges(key, EdgeKind.VERIFIED_UNDER, POLICY)
