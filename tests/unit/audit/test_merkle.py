"""The tree against RFC 6962's definition, written down naively, and against published vectors."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.audit.merkle import CompactRange, leaf_hash, node_hash

# the reference tree of the Certificate Transparency projects: google/certificate-transparency-go, merkletree tests
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def merkle_tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + merkle_tree_hash(leaves[:split]) + merkle_tree_hash(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_published_vectors(size: int) -> None:
    assert CompactRange().extend(LEAVES[:size]).root().hex() == ROOTS[size]
    assert merkle_tree_hash(LEAVES[:size]).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_appending_gives_the_defined_root(leaves: list[bytes]) -> None:
    tree = CompactRange()
    for count, leaf in enumerate(leaves, 1):
        tree = tree.append(leaf_hash(leaf))
        assert tree.size == count
        assert len(tree.hashes) == count.bit_count()
    assert tree.root() == merkle_tree_hash(leaves)


@given(st.lists(st.binary(max_size=8), max_size=40), st.lists(st.binary(max_size=8), max_size=40))
def test_extending_in_two_steps_is_extending_in_one(left: list[bytes], right: list[bytes]) -> None:
    assert CompactRange().extend(left).extend(right) == CompactRange().extend(left + right)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40, unique=True), st.data())
def test_another_list_has_another_root(leaves: list[bytes], data: st.DataObject) -> None:
    other = data.draw(st.permutations(leaves)) if data.draw(st.booleans()) else leaves[:-1]
    assert (CompactRange().extend(other).root() == CompactRange().extend(leaves).root()) == (other == leaves)


def test_leaves_are_no_nodes() -> None:
    assert leaf_hash(b"ab") != node_hash(b"a", b"b")
    tree = CompactRange().extend([b"a", b"b"])
    assert CompactRange().extend([leaf_hash(b"a") + leaf_hash(b"b")]).root() != tree.root()


@pytest.mark.parametrize(
    ("size", "hashes"),
    [
        (-1, ()),
        (0, (bytes(32),)),
        (1, ()),
        (2, (bytes(32), bytes(32))),
        (3, (bytes(32),)),
        (1, (bytes(31),)),
        (2**63, (bytes(32),)),
    ],
)
def test_ranges_that_are_none_are_refused(size: int, hashes: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"subtrees|32 bytes"):
        CompactRange(size, hashes)


def test_the_largest_tree() -> None:
    assert CompactRange(2**63 - 1, (bytes(32),) * 63).size == 2**63 - 1
