"""Audit and consistency paths: RFC 6962's own example, every pair of small sizes, and nothing but the right path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.audit.merkle import CompactRange, leaf_hash, node_hash
from mvmnix.audit.merkle_proof import (
    PathError,
    consistency_path,
    inclusion_path,
    root_by_inclusion,
    roots_by_consistency,
)

LEAVES = [leaf_hash(b"%d" % number) for number in range(40)]
MOST = 34


def root(size: int) -> bytes:
    return CompactRange().extend_hashed(LEAVES[:size]).root()


def test_the_example_of_the_rfc() -> None:
    """RFC 6962, section 2.1.3, the tree of seven leaves."""
    a, b, c, d, e, f, j = LEAVES[:7]
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, m = node_hash(g, h), node_hash(i, j)
    assert inclusion_path(LEAVES[:7], 0) == (b, h, m)
    assert inclusion_path(LEAVES[:7], 3) == (c, g, m)
    assert inclusion_path(LEAVES[:7], 4) == (f, j, k)
    assert inclusion_path(LEAVES[:7], 6) == (i, k)
    assert consistency_path(LEAVES[:7], 3) == (c, d, g, m)
    assert consistency_path(LEAVES[:7], 4) == (m,)
    assert consistency_path(LEAVES[:7], 6) == (i, j, k)


@pytest.mark.parametrize("size", range(1, MOST))
def test_every_record_is_proven(size: int) -> None:
    for index in range(size):
        path = inclusion_path(LEAVES[:size], index)
        assert root_by_inclusion(LEAVES[index], index, size, path) == root(size)


@pytest.mark.parametrize("size", range(1, MOST))
def test_every_older_state_is_proven(size: int) -> None:
    assert consistency_path(LEAVES[:size], 0) == ()
    for old in range(1, size + 1):
        path = consistency_path(LEAVES[:size], old)
        assert roots_by_consistency(old, root(old), size, path) == (root(old), root(size))


@given(st.data())
def test_no_other_path_proves_a_record(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, MOST))
    index = data.draw(st.integers(0, size - 1))
    path = list(inclusion_path(LEAVES[:size], index))
    claimed = data.draw(st.integers(0, size - 1))
    match data.draw(st.sampled_from(["flip", "drop", "add", "index", "size"])):
        case "flip" if path:
            path[data.draw(st.integers(0, len(path) - 1))] = bytes(32)
        case "drop" if path:
            del path[data.draw(st.integers(0, len(path) - 1))]
        case "size":
            size += data.draw(st.integers(1, 5))
            claimed = index
        case "index" if claimed != index:
            pass
        case _:
            claimed = index
            path.insert(data.draw(st.integers(0, len(path))), bytes(32))
    try:
        found = root_by_inclusion(LEAVES[index], claimed, size, path)
    except PathError:
        return
    assert found != root(size)


@given(st.data())
def test_no_other_path_proves_an_older_state(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, MOST))
    old = data.draw(st.integers(1, size - 1))
    path = list(consistency_path(LEAVES[:size], old))
    older = root(old)
    match data.draw(st.sampled_from(["flip", "drop", "add", "root"])):
        case "flip" if path:
            path[data.draw(st.integers(0, len(path) - 1))] = bytes(32)
        case "drop" if path:
            del path[data.draw(st.integers(0, len(path) - 1))]
        case "root":
            older = bytes(32)
        case _:
            path.insert(data.draw(st.integers(0, len(path))), bytes(32))
    try:
        found = roots_by_consistency(old, older, size, path)
    except PathError:
        return
    assert found != (older, root(size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_a_path_that_climbs_beyond_the_tree(size: int) -> None:
    """It would prove a record in a tree of another size than was said."""
    path = inclusion_path(LEAVES[:size], 0)
    with pytest.raises(PathError, match="the path is too long"):
        root_by_inclusion(LEAVES[0], 0, size, (*path, bytes(32)))


def test_a_path_that_is_missing() -> None:
    with pytest.raises(PathError, match="the path is too short"):
        roots_by_consistency(3, root(3), 5, ())


def test_from_a_tree_to_itself_there_is_no_path() -> None:
    with pytest.raises(PathError, match="the path is too long"):
        roots_by_consistency(5, root(5), 5, (bytes(32),))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1)])
def test_what_is_not_in_the_tree(index: int, size: int) -> None:
    with pytest.raises(PathError):
        root_by_inclusion(LEAVES[0], index, size, ())
    with pytest.raises(IndexError):
        inclusion_path(LEAVES[:size], index)


@pytest.mark.parametrize("old", [-1, 0, 6])
def test_states_that_never_were(old: int) -> None:
    with pytest.raises(PathError, match="does not go on from"):
        roots_by_consistency(old, root(5), 5, ())
    if old:
        with pytest.raises(IndexError):
            consistency_path(LEAVES[:5], old)
