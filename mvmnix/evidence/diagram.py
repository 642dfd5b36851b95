"""Draws a graph of evidence as inline SVG: a box for each node, which leads to what the page says of it; pure."""

import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from mvmnix.escaping import escape
from mvmnix.evidence.graph import Edge, EdgeKind, Graph, Node, NodeStatus, worst
from mvmnix.evidence.layout import HEIGHT, WIDTH, Point, place
from mvmnix.evidence.markup import CLASSES, Markup, element, mark

#: How wide letters are at most in common fonts, bold ones, in parts of the size; a diagram knows nothing of its font.
_NARROW: Final = 0.42
_PLAIN: Final = 0.7
_BROAD: Final = 0.82
_SQUARE: Final = 1.1
_ROOM: Final = 12.4
_TAIL: Final = 6
_DIGEST: Final = len("sha256:") + 12
#: How much has room in the page's column, and how small a wider diagram may be drawn; what is wider then is scrolled.
_COLUMN: Final = 1008.0
_SMALLEST: Final = 0.84
_TIP: Final = 7.0
_PAD: Final = 18.0


def diagram(graph: Graph, ids: Mapping[str, str]) -> Markup:
    """The whole graph; `ids` has the ids of the page's elements by the keys of nodes."""
    links = {(edge.earlier, edge.later): edge for edge in graph.edges}
    layout = place((node.key for node in graph.nodes), links)
    # the broken ones last, so that they lie on top
    paths = sorted(layout.paths.items(), key=lambda it: _standing(links[it[0]], graph) is not NodeStatus.VERIFIED)
    wires = (_wire(links[link], graph, points) for link, points in paths)
    boxes = (_box(node, layout.spots[node.key], ids[node.key], node.key == graph.subject) for node in graph.nodes)
    shown = min(layout.width, max(_COLUMN, layout.width * _SMALLEST))
    return element(
        "svg",
        element("title", "The evidence as a graph, from source above to machine below", id="graph-title"),
        element("g", *wires, aria_hidden="true"),
        *boxes,
        class_="graph" if shown <= _COLUMN else "graph wide",
        role="group",
        aria_labelledby="graph-title",
        width=_n(shown),
        height=_n(layout.height * shown / layout.width),
        viewBox=f"0 0 {_n(layout.width)} {_n(layout.height)}",
    )


def _wire(edge: Edge, graph: Graph, points: tuple[Point, ...]) -> Markup:
    """A smooth line downwards, and a tip at its end."""
    start, end = points[0], points[-1]
    commands = [f"M{_n(start.x)} {_n(start.y)}"]
    for here, there in pairwise((*points[:-1], Point(end.x, end.y - _TIP))):
        if here.x == there.x:
            commands.append(f"V{_n(there.y)}")
            continue
        middle = (here.y + there.y) / 2
        commands.append(f"C{_n(here.x)} {_n(middle)} {_n(there.x)} {_n(middle)} {_n(there.x)} {_n(there.y)}")
    tip = f"M{_n(end.x)} {_n(end.y - 1)}l-4 -{_n(_TIP)}h8z"
    law = " law" if edge.meaning is EdgeKind.VERIFIED_UNDER else ""
    standing = CLASSES[_standing(edge, graph)]
    told = f"{graph[edge.subject].kind} {edge.meaning.words} {graph[edge.object].kind}"
    return element(
        "g",
        element("title", told),
        element("path", d="".join(commands), class_=f"wire{law} {standing}"),
        element("path", d=tip, class_=f"tip {standing}"),
    )


def _standing(edge: Edge, graph: Graph) -> NodeStatus:
    """A link is as good as what it links."""
    return worst(graph[key].verdict.standing for key in (edge.subject, edge.object))


def _box(node: Node, spot: Point, id_: str, asked: bool) -> Markup:
    left, standing = spot.x - WIDTH / 2, node.verdict.standing
    inner = (
        element("title", f"{node.kind} {node.name}: {standing}"),
        element("rect", x=_n(left), y=_n(spot.y), width=_n(WIDTH), height=_n(HEIGHT), rx="9", class_="box"),
        element(
            "rect", x=_n(left + 6.5), y=_n(spot.y + 12), width="3", height=_n(HEIGHT - 24), rx="1.5", class_="edge"
        ),
        mark(standing, x=_n(left + _PAD), y=_n(spot.y + 10), width="14", height="14"),
        _text(node.kind, left + _PAD + 18, spot.y + 21, "kind"),
        _text(_cut(node.name), left + _PAD, spot.y + 41, "name"),
        *([_text(_beginning(node.digest), left + _PAD, spot.y + 58, "digest")] if node.digest else []),
    )
    label = f"{node.kind} {node.name}: {standing}"
    return element(
        "a", *inner, href=f"#{id_}", class_=f"{CLASSES[standing]}{' asked' if asked else ''}", aria_label=label
    )


def _text(text: str, x: float, y: float, class_: str) -> Markup:
    return element("text", text, x=_n(x), y=_n(y), class_=class_)


def _cut(text: str) -> str:
    """As much of a name as has room in a box: how it begins, and how it ends, where names of a kind differ."""
    shown = escape(text)
    if sum(map(_width, shown)) <= _ROOM:
        return shown
    head, tail = "", shown[-_TAIL:]
    room = _ROOM - sum(map(_width, f"…{tail}"))
    for character in shown:
        room -= _width(character)
        if room < 0:
            break
        head += character
    return f"{head}…{tail}"


def _width(character: str) -> float:
    if character in "mwMW@%…" or unicodedata.east_asian_width(character) in {"W", "F"}:
        return _SQUARE
    if character in " .,:;!|/'iIjlft()[]":
        return _NARROW
    return _BROAD if character.isupper() or character in "&#+=<>~_" else _PLAIN


def _beginning(digest: str) -> str:
    return digest if len(digest) <= _DIGEST else f"{digest[:_DIGEST]}…"


def _n(number: float) -> str:
    """A number in the diagram, short."""
    return f"{number:.1f}".removesuffix(".0")
