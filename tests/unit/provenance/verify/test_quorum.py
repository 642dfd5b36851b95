"""Who counts for a threshold: a signer once, a key once, a build once."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.provenance.verify.authentication import Quorum


def signed(name: str, fingerprint: bytes, key: bytes) -> Any:
    """A signature by a party of this name and fingerprint, made with this key."""
    return SimpleNamespace(signer=SimpleNamespace(name=name, fingerprint=Digest.of(fingerprint)), spki=Digest.of(key))


FIRST = signed("first", b"1", b"key 1")


@pytest.mark.parametrize(
    ("second", "builds", "why"),
    [
        (signed("second", b"2", b"key 2"), {"b"}, ""),
        (signed("again", b"1", b"key 2"), {"b"}, "'again' is counted already"),
        (
            signed("second", b"2", b"key 1"),
            {"b"},
            f"'second' and 'first' signed with the same key, {Digest.of(b'key 1')}",
        ),
        (signed("second", b"2", b"key 2"), {"a", "b"}, "it is of a build that is counted already"),
        (signed("second", b"2", b"key 2"), set(), ""),
    ],
)
def test_a_second_signature(second: Any, builds: set[str], why: str) -> None:
    quorum = Quorum()
    assert quorum.count(FIRST, {"a"}) == ""
    said = quorum.count(second, builds)
    assert bool(said) == bool(why)
    assert re.search(why, said)
    assert len(quorum) == (1 if why else 2)


def test_what_is_not_counted_takes_nothing_from_others() -> None:
    """Neither its name, nor its key, nor its build."""
    quorum = Quorum()
    quorum.count(FIRST, {"a"})
    assert quorum.count(signed("second", b"2", b"key 2"), {"a", "b"}) != ""
    assert quorum.count(signed("second", b"2", b"key 2"), {"b"}) == ""
