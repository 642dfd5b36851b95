"""What a build may ask of the caches: so often, and a cache that is down once; tests/integration has real caches."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.builder.fetch import caches as room
from mvmnix.builder.fetch.caches import CachedPath, Caches
from mvmnix.builder.fetch.resumable import DownloadLimits
from mvmnix.builder.fetch.worker.packets import Compression
from mvmnix.config import CacheRule
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.model import StorePath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache
from tests.integration.misbehaving import Asked as Request
from tests.integration.misbehaving import Server

LIMITS = DownloadLimits(attempts=1)
HASHES = ["0" * 32, "1" * 32, "2" * 32]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def caches_of(server: Server, limits: DownloadLimits = LIMITS) -> Caches:
    return Caches([CacheRule(server.origin, ())], limits, environment={})


def test_so_many_questions_and_no_more(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ASKED", 2)
    with caches_of(server) as caches:
        assert [caches.find(each) for each in HASHES[:2]] == [None, None]
        with pytest.raises(RefusedError, match="has asked the caches 2 times") as refused:
            caches.find(HASHES[2])
    assert refused.value.codes == (ReasonCode.FETCH_LIMIT,)
    assert server.paths() == [f"/{each}.narinfo" for each in HASHES[:2]]


def test_how_many_questions_a_build_may_ask(server: Server) -> None:
    with caches_of(server) as caches:
        caches._asked = 19_999
        assert caches.find(HASHES[1]) is None
        with pytest.raises(RefusedError, match="has asked the caches 20000 times"):
            caches.find(HASHES[2])


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 410, 411])
def test_what_is_a_miss(server: Server, status: int) -> None:
    """Some object stores answer 403 for what they haven't got."""
    server.routes[f"/{HASHES[0]}.narinfo"] = lambda it: it.answer(b"", status=f"{status} X")
    with caches_of(server) as caches:
        if status in {403, 404, 410}:
            assert caches.find(HASHES[0]) is None
            return
        with pytest.raises(MvmnixError, match=f"answers {status}"):
            caches.find(HASHES[0])


@pytest.mark.parametrize(("size", "code"), [(1000, ReasonCode.CACHE_SIGNATURE), (1001, ReasonCode.FETCH_LIMIT)])
def test_how_large_an_archive_may_be(server: Server, size: int, code: ReasonCode) -> None:
    said = (
        f"StorePath: /nix/store/{HASHES[0]}-x\nURL: x\nNarHash: {Digest.of(b'').sri}\nNarSize: {size}\nReferences: \n"
    )
    server.routes[f"/{HASHES[0]}.narinfo"] = lambda it: it.answer(said.encode())
    limits = DownloadLimits(size=1000, attempts=1)
    with caches_of(server, limits) as caches, pytest.raises(RefusedError) as refused:
        caches.find(HASHES[0])
    assert refused.value.codes == (code,)


def archive(server: Server, data: bytes, compression: Compression) -> CachedPath:
    """What a cache says of an archive with these bytes."""
    return CachedPath(
        *(StorePath(HASHES[0], "x"), f"{server.origin}/x.nar", Digest.of(data), len(data), (), "key:x"),
        *(server.origin, compression),
    )


@pytest.mark.parametrize(("more", "code"), [(0, ReasonCode.SOURCE_MISMATCH), (1, ReasonCode.FETCH_LIMIT)])
def test_how_much_larger_a_packed_archive_may_be(server: Server, tmp_path: Path, more: int, code: ReasonCode) -> None:
    """A sixteenth and 64 KiB: what is announced to have more is not read, what has as much is no xz."""
    size = 1600 + 100 + (1 << 16) + more
    server.routes["/x.nar"] = lambda it: it.answer(bytes(size))
    with (
        Directory.create(str(tmp_path / "store")) as directory,
        caches_of(server) as caches,
        pytest.raises(RefusedError) as refused,
    ):
        caches.bring(archive(server, bytes(1600), Compression.XZ), Cache(directory))
    assert refused.value.codes == (code,)


def test_a_cache_that_is_down_is_asked_once(server: Server) -> None:
    for each in HASHES:
        server.routes[f"/{each}.narinfo"] = lambda it: it.answer(b"", status="500 Broken")
    with caches_of(server) as caches:
        for each in HASHES:
            with pytest.raises(MvmnixError, match="answers 500"):
                caches.find(each)
    assert server.paths() == [f"/{HASHES[0]}.narinfo"]


def test_an_archive_that_changed_while_it_came_is_asked_for_anew(server: Server, tmp_path: Path) -> None:
    data = b"an archive, as it was signed"

    def answer(it: Request) -> None:
        if it.nth == 1:  # a part of it
            it.answer(data[:9], length=len(data))
            it.hang_up()
        else:
            it.answer(data if it.nth > 2 else data.upper())

    server.routes["/x.nar"] = answer
    path = archive(server, data, Compression.NONE)
    with (
        Directory.create(str(tmp_path / "store")) as directory,
        caches_of(server, DownloadLimits(attempts=2)) as caches,
    ):
        store = Cache(directory)
        caches.bring(path, store)
        assert store.read(path.nar, limit=len(data)) == data
        assert directory.names() == (path.nar.hex,)
    assert server.paths() == ["/x.nar"] * 3


@pytest.mark.parametrize(
    ("size", "why"), [(1 << 20, "is not `Name: value`"), ((1 << 20) + 1, "more than|larger|may have")]
)
def test_how_large_a_narinfo_may_be(server: Server, size: int, why: str) -> None:
    server.routes[f"/{HASHES[0]}.narinfo"] = lambda it: it.answer(b"x" * size)
    with caches_of(server) as caches, pytest.raises(MvmnixError, match=why):
        caches.find(HASHES[0])
