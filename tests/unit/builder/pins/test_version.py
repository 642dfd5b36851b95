"""Versions come in dpkg's order, relations read as Debian Policy writes them."""

import itertools

import pytest

from mvmnix.builder.pins.index import Relation, parse_relations, version_key
from tests.unit.builder.pins.versions import ASCENDING


def test_versions_ascend_as_in_dpkg() -> None:
    for older, newer in itertools.combinations(ASCENDING, 2):
        assert version_key(older) < version_key(newer), (older, newer)


@pytest.mark.parametrize(("one", "other"), [("0:1.0", "1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("1.a", "1.a0")])
def test_versions_that_dpkg_holds_equal(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)


def test_relations() -> None:
    assert parse_relations("libc6 (>= 2.38), perl:any (<< 6)|perlapi-5.40.0 , awk,") == (
        (Relation("libc6", ">=", "2.38"),),
        (Relation("perl", "<<", "6"), Relation("perlapi-5.40.0")),
        (Relation("awk"),),
    )
    assert parse_relations("") == ()


@pytest.mark.parametrize("text", ["a (> 1)", "a b", "(>= 1)", "A", "a (>= )", "a [amd64]"])
def test_what_is_no_relation(text: str) -> None:
    with pytest.raises(ValueError, match="not a relation"):
        parse_relations(text)


@pytest.mark.parametrize(
    ("relation", "version", "admitted"),
    [
        (Relation("a"), "", True),
        (Relation("a", ">=", "1.0"), "1.0", True),
        (Relation("a", ">>", "1.0"), "1.0", False),
        (Relation("a", "<<", "1.0"), "1.0~rc1", True),
        (Relation("a", "<=", "1.0"), "1.0-1", False),
        (Relation("a", "=", "1.0-1"), "1.0-1+b1", False),
        (Relation("a", ">=", "1.0"), "", False),
    ],
)
def test_what_a_relation_admits(relation: Relation, version: str, admitted: bool) -> None:
    assert relation.admits(version) is admitted
