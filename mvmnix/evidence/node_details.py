"""Says all that is known of one node, as a card of the page; what it holds unfolds by HTML's own means; pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from mvmnix.evidence.graph import Graph, Node, NodeStatus, Verdict
from mvmnix.evidence.markup import CLASSES, Markup, element, joined, mark

_NONE: Final = "none"
#: What is there to be compared character by character.
_EXACT: Final = ("sha256:", "sha256-", "/nix/store/")


def node_details(node: Node, graph: Graph, ids: Mapping[str, str]) -> Markup:
    """A node of the graph: kind, name, verdict, digest and signer at a glance, facts, edges and members below."""
    standing, id_ = node.verdict.standing, ids[node.key]
    heading = element("h3", element("span", f"{node.kind} ", class_="kind"), node.name, id=f"{id_}-name")
    edges = [*_edges(node, graph, ids)]
    return element(
        "article",
        element("div", heading, verdict_word(node.verdict), class_="top"),
        *_why(node.verdict),
        element(
            "dl",
            *_pairs(
                (
                    (
                        "digest",
                        element("span", node.digest or ("one for each" if node.members else _NONE), class_="digest"),
                    ),
                )
            ),
            *_pairs((("signer", node.signer or _NONE),)),
            *_pairs(edges),
        ),
        *_facts(node),
        *_members(node, ids),
        class_=f"node {CLASSES[standing]}",
        id=id_,
        aria_labelledby=f"{id_}-name",
    )


def verdict_word(verdict: Verdict) -> Markup:
    """The sign and the words of a verdict, in one line."""
    codes = str(verdict) if verdict.standing is NodeStatus.REFUSED else str(verdict.standing)
    return element(
        "span", mark(verdict.standing), element("span", codes), class_=f"{CLASSES[verdict.standing]} verdict"
    )


def _why(verdict: Verdict) -> Iterator[Markup]:
    if verdict.why:
        yield element("p", verdict.why, class_="why")
    if verdict.reasons:
        yield element(
            "ul",
            *(
                element(
                    "li",
                    element("p", element("code", reason.code), f" {reason.what}: {reason.why}"),
                    element("p", f"Next: {reason.hint}"),
                )
                for reason in verdict.reasons
            ),
            class_="reasons",
        )


def _edges(node: Node, graph: Graph, ids: Mapping[str, str]) -> Iterator[tuple[str, Markup]]:
    """What edges say of the node, each kind of edge once, with links to the other ends."""
    found: dict[str, list[Markup]] = {}
    for edge in graph.edges:
        if node.key not in {edge.subject, edge.object}:
            continue
        ours = edge.subject == node.key
        other = graph[edge.object if ours else edge.subject]
        words = edge.meaning.words if ours else edge.meaning.inverse
        found.setdefault(words, []).append(element("a", f"{other.kind} {other.name}", href=f"#{ids[other.key]}"))
    for words, links in found.items():
        parts: list[Markup | str] = []
        for link in links:
            parts += [", ", link] if parts else [link]
        yield words, joined(parts)


def _facts(node: Node) -> Iterator[Markup]:
    if node.facts:
        yield element("details", element("summary", "Details"), element("dl", *_pairs(node.facts)))


def _pairs(pairs: "tuple[tuple[str, Markup | str], ...] | list[tuple[str, Markup]]") -> Iterator[Markup]:
    for name, value in pairs:
        exact = isinstance(value, str) and value.startswith(_EXACT)
        yield element("dt", name)
        yield element("dd", element("span", value, class_="digest") if exact else value)


def _members(node: Node, ids: Mapping[str, str]) -> Iterator[Markup]:
    """What a group holds; open where something in it does not stand."""
    if not node.members:
        return
    doubtful = any(member.verdict.standing is not NodeStatus.VERIFIED for member in node.members)
    yield element(
        "details",
        element("summary", _counted(node.members)),
        element("ul", *(_member(member, ids) for member in node.members), class_="members"),
        open="" if doubtful else None,
    )


def _counted(members: tuple[Node, ...]) -> str:
    kinds = {member.kind for member in members}
    kind = str(*kinds) if len(kinds) == 1 else "piece of evidence"
    plural = kind.replace("piece", "pieces") if kind.startswith("piece") else f"{kind}s"
    return f"1 {kind}" if len(members) == 1 else f"{len(members)} {plural}"


def _member(node: Node, ids: Mapping[str, str]) -> Markup:
    heading = element("h4", element("span", f"{node.kind} ", class_="kind"), node.name)
    facts = (("signer", node.signer or _NONE), *node.facts)
    return element(
        "li",
        element("div", heading, verdict_word(node.verdict), class_="top"),
        element("span", node.digest or "no digest of its own", class_="digest"),
        *_why(node.verdict),
        element("dl", *_pairs(facts)),
        *_members(node, ids),
        id=ids[node.key],
    )
