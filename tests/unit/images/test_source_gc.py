"""Sources that nobody needs go from the cache; what a kept build was made from stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.images.prune import SourceGcResult, collect_garbage, sources_of
from mvmnix.model import HashMode, Source, StorePath
from mvmnix.provenance.slsa.provenance import Cached, LockAccount, LockedInput
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache, Store
from tests.unit.provenance.world import DEB, SEED, TOOL, new_world

FILES = (b"bash", b"erofs", b"left over")


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        store = Cache(directory)
        for data in FILES:
            store.put(data, Digest.of(data))
        yield store


def test_what_a_build_was_made_from(tmp_path: Path) -> None:
    tree = Source("github:o/r/1", "source", Digest.of(b"tree"), HashMode.NAR)
    path = Cached(
        StorePath("0" * 32, "hello"),
        "https://cache.example/nar/1.nar",
        Digest.of(b"nar of hello"),
        f"cache-1:{'A' * 43}=",
    )
    claim = new_world(tmp_path).provenance(nodes=LockAccount((LockedInput("r", tree),), (), ()), cached=(path,))
    digests = {DEB.digest, TOOL.digest, SEED.digest, tree.digest, path.nar}
    assert set(sources_of([claim])) == digests


def test_the_rest_goes(sources: Store) -> None:
    needed = {DEB.digest, TOOL.digest, Digest.of(b"never fetched")}
    expected = SourceGcResult((Digest.of(b"left over"),), (), len(b"left over"))
    assert collect_garbage(sources, needed, remove=False) == expected
    assert len(sources.digests()) == 3
    assert collect_garbage(sources, needed) == expected
    assert set(sources.digests()) == {DEB.digest, TOOL.digest}


def test_leftovers_go_and_what_is_being_fetched_stays(sources: Store, tmp_path: Path) -> None:
    (tmp_path / "sources" / ".0123.tmp").write_bytes(b"half")
    incoming = sources.receive()
    assert collect_garbage(sources, sources.digests()) == SourceGcResult((), (".0123.tmp",), 4)
    incoming.write(b"whole")
    incoming.close()
    incoming.keep()
    incoming.discard()
    assert sources.has(Digest.of(b"whole"))
