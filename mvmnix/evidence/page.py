"""Writes a graph of evidence as one HTML page that needs no script, no other file and no network; pure.

The page's own policy (Content Security Policy, level 3) forbids everything but its one style sheet, by that sheet's
hash. Each text in it that another party may have chosen goes through `markup.element`, which escapes it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix import __version__
from mvmnix.evidence import style
from mvmnix.evidence.diagram import diagram
from mvmnix.evidence.graph import Graph, Kind, Node, NodeStatus
from mvmnix.evidence.markup import CLASSES, Markup, element, mark, marks, raw
from mvmnix.evidence.node_details import node_details
from mvmnix.plural import counted
from mvmnix.strict import show_time

#: What the page lets a browser do: show text, with this style sheet.
POLICY: Final = f"default-src 'none'; style-src {style.HASH}; base-uri 'none'; form-action 'none'"

#: Where on the page the nodes of a kind stand, in this order.
_STAGES: Final[tuple[tuple[str, tuple[Kind, ...]], ...]] = (
    ("Source", (Kind.TREE, Kind.LOCK, Kind.INPUTS, Kind.UNTOUCHED, Kind.RELATIVE, Kind.SOURCES, Kind.CACHED)),
    ("Build", (Kind.KEPT, Kind.PARTS_STATEMENT, Kind.BUILDER, Kind.DERIVATION)),
    ("Image", (Kind.IMAGE, Kind.FILE, Kind.VERITY, Kind.SBOM)),
    ("Who vouches for it", (Kind.PROVENANCE, Kind.REBUILD, Kind.POLICY)),
    ("Run", (Kind.PLAN, Kind.MACHINE, Kind.RECORD, Kind.LOG, Kind.RECEIPT)),
)
_WORDS: Final = {
    NodeStatus.VERIFIED: "Everything verified",
    NodeStatus.UNVERIFIED: "Not everything could be verified",
    NodeStatus.REFUSED: "Refused",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A graph, and the moment at which all of it was verified."""

    graph: Graph
    moment: datetime


def render_page(it: Page) -> str:
    """The page as text, to be written in UTF-8. The same graph and moment, the same page."""
    graph = it.graph
    ids = {node.key: f"n{number}" for number, node in enumerate(graph.all())}
    subject = graph[graph.subject]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{subject.name}: evidence"),
        element("style", raw(style.SHEET)),
    )
    body = element(
        "body",
        marks(),
        element("a", "Skip to the evidence", href="#evidence", class_="skip"),
        _header(it, subject, ids),
        element("main", _graph(graph, ids), *_stages(graph, ids), id="evidence"),
        _footer(),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en').text}\n"


def _header(it: Page, subject: Node, ids: Mapping[str, str]) -> Markup:
    standing = it.graph.standing
    count = sum(1 for _ in it.graph.all())
    pieces = counted(count, "piece of evidence was", "pieces of evidence were")
    checked = f"{pieces} checked on {show_time(it.moment)}, by mvm {__version__}. "
    holds = standing is NodeStatus.VERIFIED
    said = "Each of them holds." if holds else "These do not hold, or could not be checked:"
    return element(
        "header",
        element("p", f"Evidence of a{'n' if subject.kind[0] in 'aeiou' else ''} {subject.kind}", class_="eyebrow"),
        element("h1", subject.name),
        *_origin(it.graph),
        element(
            "div",
            element("p", mark(standing), _WORDS[standing], class_="word"),
            element("p", checked, said),
            *([] if holds else [element("ul", *_broken(it.graph, ids))]),
            class_=f"sum {CLASSES[standing]}",
        ),
    )


def _broken(graph: Graph, ids: Mapping[str, str]) -> Iterator[Markup]:
    """A line for each node that is refused, then one for each cause for which others could not be verified."""
    causes: dict[str, list[Node]] = {}
    for node in graph.all():
        match node.verdict.standing:
            case NodeStatus.REFUSED:
                first, more = node.verdict.reasons[0].why, len(node.verdict.reasons) - 1
                told = f"{first}, and {more} more" if more else first
                yield element("li", _link(node, ids), f": {node.verdict}: {told}")
            case NodeStatus.UNVERIFIED:
                causes.setdefault(str(node.verdict), []).append(node)
            case NodeStatus.VERIFIED:
                pass
    for told, nodes in causes.items():
        others = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        yield element("li", _link(nodes[0], ids), f"{others}: {told}")


def _link(node: Node, ids: Mapping[str, str]) -> Markup:
    return element("a", f"{node.kind} {node.name}", href=f"#{ids[node.key]}")


def _origin(graph: Graph) -> Iterator[Markup]:
    """What it was built from, if that is trusted."""
    for node in graph.nodes:
        if node.kind is Kind.TREE and node.verdict.standing is NodeStatus.VERIFIED:
            yield element("p", f"built from {node.name}", class_="from")


def _graph(graph: Graph, ids: Mapping[str, str]) -> Markup:
    told = "From source above to machine below; dotted lines lead from the trust policy to what was verified under it."
    return element(
        "section",
        element("h2", "From source to machine", id="graph"),
        element("div", diagram(graph, ids), class_="scroll", tabindex="0", role="region", aria_labelledby="graph"),
        element("p", told, class_="key"),
        aria_labelledby="graph",
    )


def _stages(graph: Graph, ids: Mapping[str, str]) -> Iterator[Markup]:
    for number, (name, kinds) in enumerate(_STAGES):
        nodes = [node for kind in kinds for node in graph.nodes if node.kind is kind]
        if nodes:
            heading = f"stage-{number}"
            cards = (node_details(node, graph, ids) for node in nodes)
            yield element("section", element("h2", name, id=heading), *cards, aria_labelledby=heading)


def _footer() -> Markup:
    told = (
        "This page shows what a verification found at the moment and under the trust policy that it names. It is a "
        "picture of evidence, and none itself: a recipient of the image can verify it anew, with "
    )
    more = ", or with any tool that reads Sigstore bundles. The page loads nothing and runs nothing."
    return element("footer", element("p", told, element("code", "mvm verify"), more))
