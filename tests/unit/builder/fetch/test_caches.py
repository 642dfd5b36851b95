"""What a build may ask of the caches: so often, and a cache that is down once; tests/integration has real caches."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.builder.fetch import caches as room
from mvmnix.builder.fetch.caches import CachedPath, Caches, Outcome
from mvmnix.builder.fetch.parsing import Compression
from mvmnix.builder.fetch.retry import Limits
from mvmnix.config import CacheRule
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.model import Digest, StorePath
from mvmnix.private_dirs import Directory
from mvmnix.store import Cache
from tests.integration.misbehaving import Asked, Server

LIMITS = Limits(attempts=1)
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


def test_an_archive_that_changed_while_it_came_is_asked_for_anew(server: Server, tmp_path: Path) -> None:
    archive = b"an archive, as it was signed"

    def answer(it: Asked) -> None:
        if it.nth == 1:  # half of another one
            it.answer(b"an archiv", length=len(archive))
            it.hang_up()
        else:
            it.answer(archive if it.nth > 2 else archive.upper())

    server.routes["/x.nar"] = answer
    path = CachedPath(
        *(StorePath(HASHES[0], "x"), f"{server.origin}/x.nar", Digest.of(archive), len(archive), (), "key:x"),
        *(server.origin, Compression.NONE),
    )
    with (
        Directory.create(str(tmp_path / "store")) as directory,
        Caches([CacheRule(server.origin, ())], Limits(attempts=2), environment={}) as caches,
    ):
        store = Cache(directory)
        caches.bring(path, store)
        assert store.read(path.nar, limit=len(archive)) == archive
        assert directory.names() == (path.nar.hex,)
    assert server.paths() == ["/x.nar"] * 3


@pytest.mark.parametrize(
    ("size", "why"), [(1 << 20, "is not `Name: value`"), ((1 << 20) + 1, "more than|larger|may have")]
)
def test_how_large_a_narinfo_may_be(server: Server, size: int, why: str) -> None:
    server.routes[f"/{HASHES[0]}.narinfo"] = lambda it: it.answer(b"x" * size)
    rules = [CacheRule(server.origin, ())]
    with Caches(rules, LIMITS, environment={}) as caches, pytest.raises(MvmnixError, match=why):
        caches.find(HASHES[0])
