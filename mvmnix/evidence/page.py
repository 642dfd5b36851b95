"""Writes a graph of evidence as one HTML page that needs no script, no other file and no network; pure.

The page's own policy (Content Security Policy, level 3) forbids everything but its one style sheet, by that sheet's
hash. Each text in it that another party may have chosen stands in braces of `page.html`, where Jinja escapes it.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

import jinja2

from mvmnix import __version__
from mvmnix.evidence.diagram import beginning, cut, draw, shown
from mvmnix.evidence.graph import Graph, Node, NodeKind, NodeStatus, Verdict
from mvmnix.formats.escaping import escape
from mvmnix.formats.strict import show_time
from mvmnix.plural import counted

SHEET: Final = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
#: The source expression of Content Security Policy, level 3, that allows this style sheet and no other.
HASH: Final = f"'sha256-{base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()}'"
#: What the page lets a browser do: show text, with this style sheet.
POLICY: Final = f"default-src 'none'; style-src {HASH}; base-uri 'none'; form-action 'none'"
#: What is there to be compared character by character.
_EXACT: Final = ("sha256:", "sha256-", "/nix/store/")
#: The class of a standing in the style sheet.
_CLASSES: Final = {NodeStatus.VERIFIED: "good", NodeStatus.UNVERIFIED: "open", NodeStatus.REFUSED: "bad"}

#: Where on the page the nodes of a kind stand, in this order.
_STAGES: Final[tuple[tuple[str, tuple[NodeKind, ...]], ...]] = (
    (
        "Source",
        (
            NodeKind.TREE,
            NodeKind.LOCK,
            NodeKind.INPUTS,
            NodeKind.UNTOUCHED,
            NodeKind.RELATIVE,
            NodeKind.SOURCES,
            NodeKind.CACHED,
        ),
    ),
    ("Build", (NodeKind.KEPT, NodeKind.PARTS_STATEMENT, NodeKind.BUILDER, NodeKind.DERIVATION)),
    ("Image", (NodeKind.IMAGE, NodeKind.FILE, NodeKind.VERITY, NodeKind.SBOM)),
    ("Who vouches for it", (NodeKind.PROVENANCE, NodeKind.REBUILD, NodeKind.POLICY)),
    ("Run", (NodeKind.PLAN, NodeKind.MACHINE, NodeKind.RECORD, NodeKind.LOG, NodeKind.RECEIPT)),
)
_WORDS: Final = {
    NodeStatus.VERIFIED: "Everything verified",
    NodeStatus.UNVERIFIED: "Not everything could be verified",
    NodeStatus.REFUSED: "Refused",
}


def render_page(graph: Graph, moment: datetime) -> str:
    """The page as text, to be written in UTF-8; all of the graph was verified at that moment.

    The same graph and moment, the same page.
    """
    nodes = [*graph.all()]
    pieces = counted(len(nodes), "piece of evidence was", "pieces of evidence were")
    trusted = [n for n in graph.nodes if n.kind is NodeKind.TREE and n.verdict.standing is NodeStatus.VERIFIED]
    by_kind = ((name, [node for kind in kinds for node in graph.nodes if node.kind is kind]) for name, kinds in _STAGES)
    return _template().render(
        graph=graph,
        subject=graph[graph.subject],
        standing=graph.standing,
        ids={node.key: f"n{number}" for number, node in enumerate(nodes)},
        links={node.key: _links(node, graph) for node in graph.nodes},
        checked=f"{pieces} checked on {show_time(moment)}, by mvm {__version__}.",
        trusted_trees=trusted,
        broken=[*_broken(nodes)],
        drawn=draw(graph),
        stages=[(name, found) for name, found in by_kind if found],
    )


@cache
def _template() -> jinja2.Template:
    """The template; whatever it shows is written out as for a terminal, and escaped for HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else escape(str(value)),
        keep_trailing_newline=True,
    )
    environment.globals |= {"classes": _CLASSES, "words": _WORDS, "policy": POLICY, "sheet": SHEET}
    environment.filters |= {"codes": _codes, "counted": _counted, "n": shown, "cut": cut, "beginning": beginning}
    environment.tests |= {"exact": lambda text: text.startswith(_EXACT), "doubtful": _is_doubtful}
    return environment.get_template("page.html")


def _codes(verdict: Verdict) -> str:
    """The words of a verdict, in one line."""
    return str(verdict) if verdict.standing is NodeStatus.REFUSED else str(verdict.standing)


def _links(node: Node, graph: Graph) -> Mapping[str, list[Node]]:
    """What edges say of a node, each kind of edge once, with the other ends."""
    found: dict[str, list[Node]] = {}
    for edge in graph.edges:
        if node.key in {edge.subject, edge.object}:
            ours = edge.subject == node.key
            words = edge.meaning.words if ours else edge.meaning.inverse
            found.setdefault(words, []).append(graph[edge.object if ours else edge.subject])
    return found


def _is_doubtful(group: Node) -> bool:
    """Whether something in it does not stand."""
    return any(member.verdict.standing is not NodeStatus.VERIFIED for member in group.members)


def _counted(members: tuple[Node, ...]) -> str:
    kinds = {member.kind for member in members}
    if len(kinds) == 1:
        return counted(len(members), str(*kinds))
    return counted(len(members), "piece of evidence", "pieces of evidence")


def _broken(nodes: list[Node]) -> Iterator[tuple[Node, str]]:
    """Each node that is refused, then the first for each cause for which some could not be verified; what is wrong."""
    causes: dict[str, list[Node]] = {}
    for node in nodes:
        match node.verdict.standing:
            case NodeStatus.REFUSED:
                first, more = node.verdict.reasons[0].why, len(node.verdict.reasons) - 1
                yield node, f": {node.verdict}: {first}" + (f", and {more} more" if more else "")
            case NodeStatus.UNVERIFIED:
                causes.setdefault(str(node.verdict), []).append(node)
            case NodeStatus.VERIFIED:
                pass
    for cause, found in causes.items():
        yield found[0], (f" and {len(found) - 1} more" if len(found) > 1 else "") + f": {cause}"
