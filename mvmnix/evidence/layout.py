"""Places the nodes of a graph in layers, from source to machine, and its edges between them; pure.

The steps are those of K. Sugiyama, S. Tagawa and M. Toda, "Methods for Visual Understanding of Hierarchical System
Structures" (1981): layers by longest path, a waypoint in each layer that an edge crosses, an order by barycentres,
then coordinates that pull neighbours above each other. All lengths are in the units of the diagram. The same graph
has the same diagram.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

WIDTH: Final = 184.0
HEIGHT: Final = 70.0
#: Between two neighbours of a layer, and between two layers.
GAP: Final = 18.0
RISE: Final = 46.0
MARGIN: Final = 10.0
_WAYPOINT: Final = 8.0
_SWEEPS: Final = 24
#: Between two lines that end at the same side of a node.
_STEP: Final = 20.0

type Link = tuple[str, str]
#: A node, or the waypoint of a link in a layer.
type Key = str | tuple[Link, int]
type Rows = list[list[Key]]


@dataclass(frozen=True, slots=True)
class Point:
    """Where something is: the middle of its upper side."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is; `paths` has the points that the line of each link goes through, from above to below."""

    width: float
    height: float
    spots: Mapping[str, Point]
    paths: Mapping[Link, tuple[Point, ...]]


def place(keys: Iterable[str], links: Iterable[Link]) -> Layout:
    """Lay out these nodes; a link is a pair (earlier, later). Raises ValueError where links go in a circle."""
    names, pairs = tuple(dict.fromkeys(keys)), tuple(dict.fromkeys(links))
    layers = _layers(names, pairs)
    chains = {link: _chain(link, layers) for link in pairs}
    rows = _rows(layers, chains)
    neighbours = _neighbours(chains)
    _order(rows, neighbours)
    xs = _coordinates(rows, neighbours)
    left = min((x - _breadth(key) / 2 for key, x in xs.items()), default=0.0) - MARGIN
    right = max((x + _breadth(key) / 2 for key, x in xs.items()), default=0.0) + MARGIN
    at = {
        key: Point(xs[key] - left, MARGIN + number * (HEIGHT + RISE)) for number, row in enumerate(rows) for key in row
    }
    height = 2 * MARGIN + len(rows) * HEIGHT + max(0, len(rows) - 1) * RISE
    spots = {key: spot for key, spot in at.items() if isinstance(key, str)}
    return Layout(right - left, height, spots, _paths(chains, at))


def _layers(names: tuple[str, ...], pairs: tuple[Link, ...]) -> dict[str, int]:
    """Each node one below the lowest of those before it; what nothing comes before stands just above what follows."""
    before, after = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for earlier, later in pairs:
        before[later].append(earlier)
        after[earlier].append(later)
    layers: dict[str, int] = {}
    waiting = list(names)
    while waiting:
        ready = [name for name in waiting if all(each in layers for each in before[name])]
        if not ready:
            raise ValueError(f"these go in a circle: {', '.join(waiting)}")
        layers |= {name: max((layers[each] + 1 for each in before[name]), default=0) for name in ready}
        waiting = [name for name in waiting if name not in layers]
    lower = {name: min(layers[each] for each in after[name]) - 1 for name in names if not before[name] and after[name]}
    return layers | lower


def _chain(link: Link, layers: Mapping[str, int]) -> tuple[Key, ...]:
    earlier, later = link
    waypoints = ((link, number) for number in range(layers[earlier] + 1, layers[later]))
    return (earlier, *waypoints, later)


def _rows(layers: Mapping[str, int], chains: Mapping[Link, tuple[Key, ...]]) -> Rows:
    rows: Rows = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for name, number in layers.items():
        rows[number].append(name)
    for (earlier, _), chain in chains.items():
        for offset, key in enumerate(chain[1:-1], start=1):
            rows[layers[earlier] + offset].append(key)
    return rows


def _neighbours(chains: Mapping[Link, tuple[Key, ...]]) -> Mapping[Key, tuple[list[Key], list[Key]]]:
    """Of each key, those above and those below."""
    found = defaultdict[Key, tuple[list[Key], list[Key]]](lambda: ([], []))
    for chain in chains.values():
        for above, below in pairwise(chain):
            found[below][0].append(above)
            found[above][1].append(below)
    return found


def _order(rows: Rows, neighbours: Mapping[Key, tuple[list[Key], list[Key]]]) -> None:
    """Sort each row by the mean position of the neighbours, downwards and upwards in turn; keep the best crossing."""
    best = [list(row) for row in rows]
    for sweep in range(_SWEEPS):
        side = sweep % 2
        for row in rows if side == 0 else reversed(rows):
            where = {key: number / max(1, len(each)) for each in rows for number, key in enumerate(each)}
            row.sort(key=lambda key: fmean([where[it] for it in neighbours[key][side]] or [where[key]]))
        if _crossings(rows, neighbours) < _crossings(best, neighbours):
            best = [list(row) for row in rows]
    rows[:] = best


def _crossings(rows: Rows, neighbours: Mapping[Key, tuple[list[Key], list[Key]]]) -> int:
    count = 0
    for above, below in pairwise(rows):
        where = {key: number for number, key in enumerate(below)}
        ends = [number for key in above for number in sorted(where[it] for it in neighbours[key][1])]
        count += sum(1 for index, left in enumerate(ends) for right in ends[index + 1 :] if right < left)
    return count


def _breadth(key: Key) -> float:
    return WIDTH if isinstance(key, str) else _WAYPOINT


def _coordinates(rows: Rows, neighbours: Mapping[Key, tuple[list[Key], list[Key]]]) -> dict[Key, float]:
    """The middle of each key: as near to the mean of its neighbours as those beside it let it."""
    xs: dict[Key, float] = {}
    for row in rows:
        xs |= _spread(row, dict.fromkeys(row, 0.0))
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {key: fmean([xs[it] for side in neighbours[key] for it in side] or [xs[key]]) for key in row}
            xs |= _spread(row, wanted)
    return _straightened(rows, neighbours, xs)


def _straightened(
    rows: Rows, neighbours: Mapping[Key, tuple[list[Key], list[Key]]], xs: Mapping[Key, float]
) -> dict[Key, float]:
    """The same with all that is above each gap moved sideways as one, so that the lines across lean least.

    Row by row it would take long until two halves that hang together by a single line came to stand above each other.
    """
    moved = dict(xs)
    for number, above in enumerate(rows):
        leans = [moved[there] - moved[key] for key in above for there in neighbours[key][1]]
        aside = fmean(leans or [0.0])
        moved |= {key: moved[key] + aside for row in rows[: number + 1] for key in row}
    return moved


def _spread(row: list[Key], wanted: Mapping[Key, float]) -> dict[Key, float]:
    """Positions in this order without overlap, nearest to the wanted ones: neighbours that push each other move as one.

    That is isotonic regression by pooling adjacent violators, once the breadths before each key are taken off.
    """
    offsets, reach = {}, 0.0
    for previous, key in pairwise([None, *row]):
        if previous is not None and key is not None:
            reach += (_breadth(previous) + _breadth(key)) / 2 + GAP
        offsets[key] = reach
    pools: list[list[float]] = []
    for key in row:
        pools.append([wanted[key] - offsets[key]])
        while len(pools) > 1 and fmean(pools[-2]) >= fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    means = [fmean(pool) for pool in pools for _ in pool]
    return {key: mean + offsets[key] for key, mean in zip(row, means, strict=True)}


def _paths(chains: Mapping[Link, tuple[Key, ...]], at: Mapping[Key, Point]) -> dict[Link, tuple[Point, ...]]:
    """The points of each line; lines that meet at a node begin and end beside each other."""
    leaving, arriving = (
        defaultdict[str, list[tuple[float, Link]]](list),
        defaultdict[str, list[tuple[float, Link]]](list),
    )
    for link, chain in chains.items():
        leaving[link[0]].append((at[chain[1]].x, link))
        arriving[link[1]].append((at[chain[-2]].x, link))
    out, into = _ports(leaving, at), _ports(arriving, at)
    paths = {}
    for link, chain in chains.items():
        points = [Point(out[link], at[chain[0]].y + HEIGHT)]
        for key in chain[1:-1]:
            points += (at[key], Point(at[key].x, at[key].y + HEIGHT))
        paths[link] = (*points, Point(into[link], at[chain[-1]].y))
    return paths


def _ports(ends: Mapping[str, list[tuple[float, Link]]], at: Mapping[Key, Point]) -> dict[Link, float]:
    """Where on a side of its node each line ends, in the order of where they lead."""
    found = {}
    for name, lines in ends.items():
        step = min(_STEP, 0.7 * WIDTH / len(lines))
        for number, (_, link) in enumerate(sorted(lines)):
            found[link] = at[name].x + (number - (len(lines) - 1) / 2) * step
    return found
