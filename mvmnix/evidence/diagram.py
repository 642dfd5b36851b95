"""Draws a graph of evidence as a diagram: a box for each node, and a line for each edge; pure."""

import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mvmnix.evidence.graph import Edge, EdgeKind, Graph, Node, NodeStatus, worst
from mvmnix.evidence.layout import HEIGHT, WIDTH, Layout, Point, place
from mvmnix.formats.escaping import escape

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


@dataclass(frozen=True, slots=True)
class Wire:
    """The line of an edge, and the tip at its end, as paths of SVG; `title` says it in words."""

    title: str
    line: str
    tip: str
    standing: NodeStatus
    is_law: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A node, and the upper left corner of its box."""

    node: Node
    left: float
    top: float


@dataclass(frozen=True, slots=True)
class Diagram:
    """What is drawn, in the layout's units, and how large it is shown, in pixels."""

    layout: Layout
    wires: tuple[Wire, ...]
    boxes: tuple[Box, ...]
    width: float
    box_width: float = WIDTH
    box_height: float = HEIGHT

    @property
    def height(self) -> float:
        """As the width, in proportion."""
        return self.layout.height * self.width / self.layout.width

    @property
    def is_wide(self) -> bool:
        """Whether it is wider than the page's column."""
        return self.width > _COLUMN


def draw(graph: Graph) -> Diagram:
    """The whole graph. Raises ValueError where edges go in a circle."""
    links = {(edge.earlier, edge.later): edge for edge in graph.edges}
    layout = place((node.key for node in graph.nodes), links)
    wires = (_wire(links[link], graph, points) for link, points in layout.paths.items())
    spots = ((node, layout.spots[node.key]) for node in graph.nodes)
    return Diagram(
        layout,
        # the broken ones last, so that they lie on top
        tuple(sorted(wires, key=lambda wire: wire.standing is not NodeStatus.VERIFIED)),
        tuple(Box(node, spot.x - WIDTH / 2, spot.y) for node, spot in spots),
        min(layout.width, max(_COLUMN, layout.width * _SMALLEST)),
    )


def _wire(edge: Edge, graph: Graph, points: tuple[Point, ...]) -> Wire:
    """A smooth line downwards, and a tip at its end."""
    start, end = points[0], points[-1]
    commands = [f"M{shown(start.x)} {shown(start.y)}"]
    for here, there in pairwise((*points[:-1], Point(end.x, end.y - _TIP))):
        if here.x == there.x:
            commands.append(f"V{shown(there.y)}")
            continue
        x, y, middle = shown(here.x), shown(there.y), shown((here.y + there.y) / 2)
        commands.append(f"C{x} {middle} {shown(there.x)} {middle} {shown(there.x)} {y}")
    return Wire(
        f"{graph[edge.subject].kind} {edge.meaning.words} {graph[edge.object].kind}",
        "".join(commands),
        f"M{shown(end.x)} {shown(end.y - 1)}l-4 -{shown(_TIP)}h8z",
        _standing(edge, graph),
        edge.meaning is EdgeKind.VERIFIED_UNDER,
    )


def _standing(edge: Edge, graph: Graph) -> NodeStatus:
    """A link is as good as what it links."""
    return worst(graph[key].verdict.standing for key in (edge.subject, edge.object))


def cut(text: str) -> str:
    """As much of a name as has room in a box: how it begins, and how it ends, where names of a kind differ."""
    whole = escape(text)
    if sum(map(_width, whole)) <= _ROOM:
        return whole
    head, tail = "", whole[-_TAIL:]
    room = _ROOM - sum(map(_width, f"…{tail}"))
    for character in whole:
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


def beginning(digest: str) -> str:
    """As much of a digest as has room in a box."""
    return digest if len(digest) <= _DIGEST else f"{digest[:_DIGEST]}…"


def shown(number: float) -> str:
    """A number in the diagram, short."""
    return f"{number:.1f}".removesuffix(".0")
