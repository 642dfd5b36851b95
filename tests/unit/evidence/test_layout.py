"""No box covers another, no line crosses a box, and everything flows downwards, whatever the graph."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.evidence.layout import GAP, HEIGHT, MARGIN, WIDTH, Layout, Link, place

NAMES = tuple("abcdefghij")


def check(names: tuple[str, ...], links: list[Link], found: Layout) -> None:
    assert set(found.spots) == set(names)
    assert set(found.paths) == set(links)
    boxes = list(found.spots.values())
    for index, one in enumerate(boxes):
        assert WIDTH / 2 <= one.x <= found.width - WIDTH / 2
        assert 0 <= one.y <= found.height - HEIGHT
        assert not [it for it in boxes[index + 1 :] if it.y == one.y and abs(it.x - one.x) < WIDTH]
    for (earlier, later), path in found.paths.items():
        start, end = found.spots[earlier], found.spots[later]
        assert start.y + HEIGHT == path[0].y < path[-1].y == end.y
        assert abs(path[0].x - start.x) < WIDTH / 2
        assert abs(path[-1].x - end.x) < WIDTH / 2
        for here, there in pairwise(path):
            if here.x == there.x and (here.y, there.y) != (path[0].y, path[1].y):
                beside = [box for box in boxes if here.y <= box.y < there.y and abs(box.x - here.x) <= WIDTH / 2]
                assert not beside, "a line goes through a box"
            assert here.y < there.y


def links(names: tuple[str, ...]) -> st.SearchStrategy[list[Link]]:
    pairs = [(one, other) for index, one in enumerate(names) for other in names[index + 1 :]]
    return st.lists(st.sampled_from(pairs), unique=True, max_size=25)


@given(links(NAMES))
def test_any_graph_without_a_circle(found: list[Link]) -> None:
    layout = place(NAMES, found)
    check(NAMES, found, layout)
    assert layout == place(NAMES, found)


def test_a_chain_is_a_column() -> None:
    layout = place("abc", [("a", "b"), ("b", "c")])
    assert len({spot.x for spot in layout.spots.values()}) == 1
    assert [layout.spots[name].y for name in "abc"] == sorted(spot.y for spot in layout.spots.values())


def test_what_nothing_comes_before_stands_near_what_it_serves() -> None:
    layout = place("abcd", [("a", "b"), ("b", "c"), ("d", "c")])
    assert layout.spots["d"].y == layout.spots["b"].y


@pytest.mark.parametrize("links", [[("a", "a")], [("a", "b"), ("b", "a")]])
def test_a_circle_is_refused(links: list[Link]) -> None:
    with pytest.raises(ValueError, match="circle"):
        place("ab", links)


def test_nothing() -> None:
    assert place((), ()).spots == {}


def test_what_hangs_together_by_one_line_hangs_straight() -> None:
    """An hourglass is as wide as its widest row: neither half stands aside."""
    above, below = [f"source {n}" for n in range(6)], [f"file {n}" for n in range(6)]
    links = [*((each, "built") for each in above), ("built", "image"), *(("image", each) for each in below)]
    links.append((above[0], above[1]))
    found = place([*above, "built", "image", "policy", *below], [*links, ("policy", below[0])])
    assert abs(found.spots["built"].x - found.spots["image"].x) < 1
    assert found.width < 7 * (WIDTH + GAP) + 2 * MARGIN
