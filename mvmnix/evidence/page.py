"""Writes a graph of evidence as one HTML page that needs no script, no other file and no network; pure.

The page's own policy (Content Security Policy, level 3) forbids everything but its one style sheet, by that sheet's
hash. Each text in it that another party may have chosen goes through `markup.element`, which escapes it.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix import __version__
from mvmnix.evidence.diagram import diagram
from mvmnix.evidence.graph import Graph, Kind, Node, NodeStatus, Verdict
from mvmnix.evidence.markup import CLASSES, Markup, element, joined, mark, marks, raw
from mvmnix.formats.strict import show_time
from mvmnix.plural import counted

SHEET: Final = """
:root {
  color-scheme: light dark;
  --paper: #f7f7f5; --card: #ffffff; --ink: #1d2126; --soft: #575f6a; --line: #dedfd9; --wire: #a9aeb5;
  --link: #1f5aa8; --good: #17693f; --good-bed: #e6f3eb; --bad: #a81e1e; --bad-bed: #fbe9e8;
  --open: #7a5200; --open-bed: #fbf1d9;
  --text: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1c2025; --ink: #e9e8e4; --soft: #a5adb8; --line: #30363d; --wire: #5d6670;
    --link: #8ab8f5; --good: #66d19b; --good-bed: #16301f; --bad: #ff9a92; --bad-bed: #3b1a1a;
    --open: #f0c465; --open-bed: #33270d;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--text); }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: .25rem 0 1.25rem; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; font-weight: 650; margin: 3rem 0 1rem; }
h3 { font-size: 1.05rem; font-weight: 650; margin: 0; overflow-wrap: anywhere; flex: 1 1 12rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--link); text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 3px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
.from { color: var(--soft); margin: -.9rem 0 1.25rem; overflow-wrap: anywhere; max-width: none; }
.eyebrow { color: var(--soft); font-size: .85rem; letter-spacing: .04em; margin: 0; }
code, .digest { font-family: var(--mono); font-size: .84em; overflow-wrap: anywhere; }
.sum { border-radius: 12px; padding: 1rem 1.25rem; border: 1px solid transparent; }
.sum p { margin: 0; max-width: none; }
.sum .word { font-weight: 650; font-size: 1.15rem; display: flex; align-items: center; gap: .5rem; }
.sum ul { margin: .75rem 0 0; padding-left: 1.25rem; }
.sum li { margin: .35rem 0; overflow-wrap: anywhere; }
.good.sum { background: var(--good-bed); border-color: var(--good); }
.bad.sum { background: var(--bad-bed); border-color: var(--bad); }
.open.sum { background: var(--open-bed); border-color: var(--open); }
.good .word { color: var(--good); } .bad .word { color: var(--bad); } .open .word { color: var(--open); }
svg.mark { width: 1em; height: 1em; flex: none; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 12px; background: var(--card);
  padding: 1rem; width: fit-content; min-width: 100%; max-width: calc(100vw - 3rem); position: relative; left: 50%;
  transform: translateX(-50%); }
.scroll > svg { display: block; margin: 0 auto; max-width: 100%; min-width: 44rem; height: auto; }
.scroll > svg.wide { max-width: none; }
.graph { font-family: var(--text); }
.graph .wire { fill: none; stroke: var(--wire); stroke-width: 1.4; }
.graph .wire.law { stroke-dasharray: 2 4; }
.graph .tip { fill: var(--wire); }
.graph .wire.bad { stroke: var(--bad); stroke-width: 2; } .graph .tip.bad { fill: var(--bad); }
.graph .wire.open { stroke: var(--open); } .graph .tip.open { fill: var(--open); }
.graph .box { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
.graph .edge { stroke: none; }
.graph .good .edge { fill: var(--good); }
.graph .bad .edge { fill: var(--bad); }
.graph .open .edge { fill: var(--open); }
.graph .bad .box { fill: var(--bad-bed); stroke: var(--bad); }
.graph .open .box { fill: var(--open-bed); stroke: var(--open); }
.graph .good .mark { color: var(--good); }
.graph .bad .mark { color: var(--bad); }
.graph .open .mark { color: var(--open); }
.graph .kind { fill: var(--soft); font-size: 11px; }
.graph .name { fill: var(--ink); font-size: 12.5px; font-weight: 600; }
.graph .digest { fill: var(--soft); font-size: 11px; }
.graph .asked .box { stroke: var(--ink); stroke-width: 2; }
.graph a:focus-visible { outline: none; }
.graph a:focus-visible .box, .graph a:hover .box { stroke: var(--link); stroke-width: 2.2; }
.key { color: var(--soft); font-size: .85rem; margin: .6rem 0 0; }
.node { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.25rem;
  margin: 0 0 .9rem; scroll-margin-top: 1rem; overflow: hidden; }
.node:target { border-color: var(--link); box-shadow: 0 0 0 2px var(--link); }
.node.bad { border-color: var(--bad); } .node.open { border-color: var(--open); }
.top { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; justify-content: space-between; }
.kind { color: var(--soft); font-weight: 450; }
.verdict { display: inline-flex; align-items: center; gap: .4rem; font-size: .9rem; font-weight: 600;
  overflow-wrap: anywhere; }
.verdict.good { color: var(--good); }
.verdict.bad { color: var(--bad); }
.verdict.open { color: var(--open); }
.why::first-letter { text-transform: uppercase; }
.why { color: var(--soft); font-size: .92rem; margin: .2rem 0 0; max-width: none; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: .2rem 1rem; margin: .7rem 0 0;
  font-size: .92rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.reasons { list-style: none; margin: .7rem 0 0; padding: 0; }
.reasons li { background: var(--bad-bed); border-radius: 8px; padding: .6rem .8rem; margin: .4rem 0; font-size: .92rem;
  overflow-wrap: anywhere; }
.reasons p { margin: .15rem 0; max-width: none; }
.reasons code { color: var(--bad); font-weight: 600; }
details { margin: .7rem 0 0; font-size: .92rem; }
summary { cursor: pointer; color: var(--link); width: fit-content; }
.members { list-style: none; margin: .5rem 0 0; padding: 0; border-top: 1px solid var(--line); }
.members > li { padding: .55rem 0; border-bottom: 1px solid var(--line); }
.members h4 { font-size: .92rem; font-weight: 550; margin: 0; overflow-wrap: anywhere; flex: 1 1 12rem; }
.members .digest { color: var(--soft); display: block; }
.members dl { margin-top: .2rem; font-size: .85rem; }
.members .members { margin-left: 1rem; }
footer { color: var(--soft); font-size: .9rem; padding-top: 1.5rem; padding-bottom: 4rem; }
footer p { border-top: 1px solid var(--line); padding-top: 1.25rem; max-width: none; }
@media (max-width: 40rem) {
  main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.75rem; }
  .scroll { max-width: calc(100vw - 2rem); }
  h1 { font-size: 1.6rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .45rem; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  :root {
    color-scheme: light;
    --paper: #ffffff; --card: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --wire: #777777;
    --link: #000000; --good: #17693f; --good-bed: #ffffff; --bad: #a81e1e; --bad-bed: #ffffff; --open: #7a5200;
    --open-bed: #ffffff;
  }
  body { font-size: 10.5pt; }
  main, header, footer { max-width: none; padding: 0; }
  .skip, summary { display: none; }
  .scroll { overflow: visible; border: 0; padding: 0; width: auto; max-width: none; left: 0; transform: none; }
  .scroll > svg, .scroll > svg.wide { max-width: 100%; min-width: 0; height: auto; }
  details::details-content { content-visibility: visible; display: block; }
  .node, .members > li { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
#: The source expression of Content Security Policy, level 3, that allows this style sheet and no other.
HASH: Final = f"'sha256-{base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()}'"


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


#: What the page lets a browser do: show text, with this style sheet.
POLICY: Final = f"default-src 'none'; style-src {HASH}; base-uri 'none'; form-action 'none'"

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
        element("style", raw(SHEET)),
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
