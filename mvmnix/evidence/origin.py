"""Draws what an image was built from: tree, lock and its nodes, sources, kept parts, cached paths, derivation; pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from mvmnix.errors import MvmnixError
from mvmnix.evidence.check import Checked, check_parts
from mvmnix.evidence.graph import Draft, EdgeKind, Kind, Node, NodeStatus, Verdict, unverified, verdict_of, verified
from mvmnix.evidence.stored_build import StoredDocument
from mvmnix.model import Digest, Source
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import KeptPath, Provenance
from mvmnix.strict import show_time

_LISTED: Final = "the signed provenance lists it by this digest"


def add_origin(draft: Draft, it: Checked, *, policy: TrustPolicy, now: datetime, at: str) -> None:
    """Add all that came into a build; `at` stands before each key."""
    if it.stored.lock is not None:
        draft.add(_lock(it, it.stored.lock, at))
    statements = [draft.add(_statement(document, policy, now, at)) for document in it.stored.parts]
    if it.claim is None:
        draft.add(Node(f"{at}tree", Kind.TREE, "unknown: no trusted provenance names it", unverified(_unknown(it))))
        return
    derivation = draft.add(_derivation(it, it.claim, at))
    tree = draft.add(_tree(it, it.claim, at))
    draft.add_edges(derivation, EdgeKind.BUILT_FROM, tree)
    if it.stored.lock is None and it.claim.lock is not None:
        draft.add(_missing_lock(it, it.claim.lock, at))
    draft.add_edges(tree, EdgeKind.LOCKED_BY, f"{at}lock")
    for group in _lock_nodes(it, it.claim, at):
        draft.add_edges(f"{at}lock", EdgeKind.NAMES, draft.add(group))
        if group.kind is Kind.INPUTS:
            draft.add_edges(derivation, EdgeKind.BUILT_FROM, group.key)
    for group in _arrivals(it, it.claim, at):
        draft.add_edges(derivation, EdgeKind.BUILT_FROM, draft.add(group))
        if group.kind is Kind.KEPT:
            draft.add_edges(group.key, EdgeKind.LISTED_IN, *statements)


def _unknown(it: Checked) -> str:
    return it.doubt or "the provenance says nothing that can be read"


def flake_name(claim: Provenance) -> str:
    """What was built, as a flake reference."""
    mark = "&" if "?" in claim.root.uri else "?"
    where = f"{mark}dir={claim.directory}" if claim.directory else ""
    return f"{claim.root.uri}{where}#{claim.attribute}"


def _tree(it: Checked, claim: Provenance, at: str) -> Node:
    verdict = it.verdict(Kind.TREE, "the source rules of the trust policy admit it, by URI and commit (step 15)")
    commit = claim.root.commit or "none: a local copy"
    facts = (("commit", commit), ("NAR hash", claim.root.nar.sri))
    return Node(f"{at}tree", Kind.TREE, flake_name(claim), verdict, str(claim.root.nar), it.signer, facts)


def _lock(it: Checked, document: StoredDocument, at: str) -> Node:
    what = "its bytes are those that were built from, and each node is accounted for (steps 12, 13, 22)"
    verdict = it.document(Kind.LOCK, document, what)
    return Node(f"{at}lock", Kind.LOCK, "flake.lock", verdict, str(document.digest), it.signer)


def _missing_lock(it: Checked, digest: Digest, at: str) -> Node:
    verdict = it.verdict(Kind.LOCK, "the signed provenance names it")
    return Node(f"{at}lock", Kind.LOCK, "flake.lock", verdict, str(digest), it.signer)


def _group(it: Checked, kind: Kind, at: str, members: Iterable[Node], noun: str) -> Node:
    """Several of a kind as one node, whose verdict is about the list; each member has its own. It gives keys."""
    key = f"{at}{kind.name.lower()}"
    found = tuple(replace(member, key=f"{key}/{number}") for number, member in enumerate(members))
    what = "none is listed twice, and the list is the signed one (steps 13, 14, 18)"
    name = f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"
    return Node(key, kind, name, it.verdict(kind, what), "", it.signer, (), found)


def _lock_nodes(it: Checked, claim: Provenance, at: str) -> Iterable[Node]:
    def node(name: str, what: str, digest: str = "", facts: tuple[tuple[str, str], ...] = ()) -> Node:
        return Node("", Kind.INPUT, name, it.verdict(Kind.INPUT, what), digest, it.signer, facts)

    handed, idle = "locked to this, and handed in as this tree (steps 13, 17)", "locked to this, and never handed in"
    inside = "a relative path, which the digest of the tree covers (step 13)"
    nodes = claim.nodes
    if nodes.inputs:
        members = (node(each.node, handed, str(each.source.digest), _uri(each.source)) for each in nodes.inputs)
        yield _group(it, Kind.INPUTS, at, members, "node")
    if nodes.untouched:
        members = (node(each.node, f"{idle} (step 13)", str(each.nar)) for each in nodes.untouched)
        yield _group(it, Kind.UNTOUCHED, at, members, "node")
    if nodes.relative:
        yield _group(it, Kind.RELATIVE, at, (node(name, inside) for name in nodes.relative), "node")


def _uri(source: Source) -> tuple[tuple[str, str], ...]:
    return (("from", source.uri),)


def _arrivals(it: Checked, claim: Provenance, at: str) -> Iterable[Node]:
    if claim.sources:
        members = _sources(claim.sources, it.verdict(Kind.SOURCE, _LISTED), it.signer, "")
        yield _group(it, Kind.SOURCES, at, members, "file")
    if claim.kept:
        yield _group(it, Kind.KEPT, at, (_part(it, each) for each in claim.kept), "store path")
    if claim.cached:
        what = "a cache's key that the trust policy knows vouches for it (step 18)"
        members = (
            Node(
                "",
                Kind.PATH,
                each.path.name,
                it.verdict(Kind.PATH, what),
                str(each.nar),
                each.key if it.evidence else "",
                (("store path", str(each.path)), ("from", each.uri)),
            )
            for each in claim.cached
        )
        yield _group(it, Kind.CACHED, at, members, "store path")


def _sources(sources: Iterable[Source], verdict: Verdict, signer: str, at: str) -> Iterable[Node]:
    for number, each in enumerate(sources):
        facts = (*_uri(each), ("store path", str(each.store_path)), ("hashed as", str(each.mode)))
        yield Node(f"{at}source/{number}", Kind.SOURCE, each.name, verdict, str(each.digest), signer, facts)


def _part(it: Checked, part: KeptPath) -> Node:
    verdict = it.verdict(Kind.PART, "a signed parts statement lists it by this digest (step 19)")
    facts = (("store path", str(part.path)), ("parts statement", str(part.bundle)))
    return Node("", Kind.PART, part.path.name, verdict, str(part.nar), it.signer, facts)


def _statement(document: StoredDocument, policy: TrustPolicy, now: datetime, at: str) -> Node:
    key, name, digest = f"{at}parts/{document.digest.hex}", "mvm's own modules", str(document.digest)
    found = check_parts(document, policy=policy, now=now)
    if isinstance(found, MvmnixError):
        return Node(key, Kind.PARTS_STATEMENT, name, verdict_of(found), digest)
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
    return Node(key, Kind.PARTS_STATEMENT, name, verdict, digest, signer, facts, members)


def _derivation(it: Checked, claim: Provenance, at: str) -> Node:
    what = "the signed provenance names it; evaluation had no more power than the trust policy gives (step 20)"
    name = "not named" if claim.derivation is None else claim.derivation.name
    powers = "may build, and read what it built" if claim.from_derivation else "builds nothing"
    facts = [("store path", str(claim.derivation))] if claim.derivation is not None else []
    facts += [("evaluation", powers), ("mvm", claim.versions.mvm), ("Nix", claim.versions.nix)]
    return Node(
        f"{at}derivation", Kind.DERIVATION, name, it.verdict(Kind.DERIVATION, what), "", it.signer, tuple(facts)
    )


def stands(verdict: Verdict) -> bool:
    """Whether it was verified."""
    return verdict.standing is NodeStatus.VERIFIED
