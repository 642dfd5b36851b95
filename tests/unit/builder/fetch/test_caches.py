"""What a build may ask of the caches: so often, and a cache that is down once; tests/integration has real caches."""

from collections.abc import Iterator

import pytest

from mvmnix.builder.fetch import caches as room
from mvmnix.builder.fetch.caches import Caches, Outcome
from mvmnix.builder.fetch.retry import DownloadLimits
from mvmnix.config import CacheRule
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from tests.integration.misbehaving import Server

LIMITS = DownloadLimits(attempts=1)
HASHES = ["0" * 32, "1" * 32, "2" * 32]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_so_many_questions_and_no_more(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ASKED", 2)
    with Caches([CacheRule(server.origin, ())], LIMITS, environment={}) as caches:
        assert [caches.find(each) for each in HASHES[:2]] == [None, None]
        with pytest.raises(RefusedError, match="has asked the caches 2 times") as refused:
            caches.find(HASHES[2])
    assert refused.value.codes == (ReasonCode.FETCH_LIMIT,)
    assert [one.outcome for one in caches.asked] == [Outcome.MISSED, Outcome.MISSED, Outcome.REFUSED]
    assert server.paths() == [f"/{each}.narinfo" for each in HASHES[:2]]


def test_a_cache_that_is_down_is_asked_once(server: Server) -> None:
    for each in HASHES:
        server.routes[f"/{each}.narinfo"] = lambda it: it.answer(b"", status="500 Broken")
    with Caches([CacheRule(server.origin, ())], LIMITS, environment={}) as caches:
        for each in HASHES:
            with pytest.raises(MvmnixError, match="answers 500"):
                caches.find(each)
    assert server.paths() == [f"/{HASHES[0]}.narinfo"]


@pytest.mark.parametrize(
    ("size", "why"), [(1 << 20, "is not `Name: value`"), ((1 << 20) + 1, "more than|larger|may have")]
)
def test_how_large_a_narinfo_may_be(server: Server, size: int, why: str) -> None:
    server.routes[f"/{HASHES[0]}.narinfo"] = lambda it: it.answer(b"x" * size)
    rules = [CacheRule(server.origin, ())]
    with Caches(rules, LIMITS, environment={}) as caches, pytest.raises(MvmnixError, match=why):
        caches.find(HASHES[0])
