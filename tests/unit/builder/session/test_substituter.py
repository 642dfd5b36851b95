"""What is brought for whom: known paths by hash, unknown ones from caches, and each question on record first."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import override

import pytest

from mvmnix.builder.fetch.caches import CachedPath
from mvmnix.builder.fetch.worker.packets import Compression
from mvmnix.builder.session.ledger import Offer
from mvmnix.builder.session.substituter import SourceFinder
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.formats import lock
from mvmnix.model import HashMode, StorePath
from mvmnix.provenance.slsa.provenance import Cached, KeptPath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache, Store
from tests.descriptors import until_the_end
from tests.fakes import AtOnce, Market, nar_of, source

TOOL, LIBRARY = source("tool.deb", b"tool"), source("library.deb", b"library")
TREE = source("seed", nar_of(b"seed"), HashMode.NAR)
PART = KeptPath(StorePath("a" * 32, "initrd"), Digest.of(nar_of(b"initrd")), Digest.of(b"statement"))
IN_CACHE = CachedPath(
    StorePath("c" * 32, "bash"),
    "https://cache.example/nar/x.nar",
    Digest.of(nar_of(b"bash")),
    len(nar_of(b"bash")),
    (StorePath("d" * 32, "glibc"),),
    f"cache.example-1:{'A' * 43}=",
    "https://cache.example",
    next(iter(Compression)),
)


@dataclass
class Shelf:
    """A cache that has one path; `journal` is where it writes what it was asked."""

    journal: list[str]
    broken: MvmnixError | None = None

    def find(self, hash_part: str, doubt: Callable[[MvmnixError], None]) -> CachedPath | None:
        self.journal.append(f"cache asked {hash_part}")
        if self.broken is not None and hash_part == IN_CACHE.path.hash:
            doubt(self.broken)  # another cache has it
        elif self.broken is not None:
            raise self.broken
        return IN_CACHE if hash_part == IN_CACHE.path.hash else None

    def bring(self, path: CachedPath, store: Store) -> None:
        self.journal.append(f"cache brings {path.uri}")
        store.put(nar_of(b"bash"), path.nar)


@dataclass
class Noting(Market):
    """A market that writes down what it is asked for, in one journal with the rest."""

    journal: list[str] = field(default_factory=list)

    @override
    def _bring(self, uri: str, digest: Digest) -> None:
        self.journal.append(f"market asked {uri}")
        super()._bring(uri, digest)


@dataclass
class Counter:
    """A supply, and what it said and offered."""

    path: Path
    journal: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Cache(until_the_end(Directory.create(str(self.path / "sources"))))
        self.market = Noting(self.store, {TOOL.digest: b"tool", TREE.digest: nar_of(b"seed")}, journal=self.journal)
        self.finder = SourceFinder(self.market, self.store, AtOnce(), self.journal.append)

    def seek(self, name: str) -> tuple[bool, Offer | None]:
        """Whether it was looked for, and what was found."""
        found: list[Offer | None] = []
        begun = self.finder.seek(name, found.append)
        assert len(found) == begun, "whoever waits is told, once"
        return begun, found[0] if found else None

    def offered(self, name: str) -> Offer:
        begun, offer = self.seek(name)
        assert begun
        assert offer is not None
        assert Digest.of(b"".join(offer.archive())) == offer.nar
        assert len(b"".join(offer.archive())) == offer.size
        return offer

    def keep(self, archive: bytes = nar_of(b"initrd")) -> Path:
        """Have the archive of the part; returns where it lies."""
        self.store.put(nar_of(b"initrd"), PART.nar)
        where = self.path / "sources" / PART.nar.hex
        where.write_bytes(archive)
        return where


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path)


def test_a_source_is_recorded_before_it_is_asked_for(counter: Counter) -> None:
    counter.finder.know([TOOL, TREE])
    for it in (TOOL, TREE):
        offer = counter.offered(it.store_path.hash)
        assert (offer.path, offer.origin, offer.references) == (it.store_path, it, ())
        assert offer.address is not None
    assert counter.journal == [
        line for it in (TOOL, TREE) for line in (f"asking for {it.uri} ({it.digest})", f"market asked {it.uri}")
    ]
    counter.journal.clear()
    counter.offered(TOOL.store_path.hash)
    assert counter.journal == [], "what is here is asked of nobody"


def test_a_locked_tree_is_recorded_before_it_is_asked_for(counter: Counter) -> None:
    archive = nar_of(b"tree")
    address = {"type": "tarball", "url": "https://host/x.tar.gz"}
    nodes = {
        "root": {"inputs": {"x": "x"}},
        "x": {"locked": address | {"narHash": Digest.of(archive).sri}, "original": address},
    }
    text = json.dumps({"nodes": nodes, "root": "root", "version": 7})
    (node,) = lock.parse(text.encode()).locked
    counter.market.files = {node.nar: archive}
    counter.finder.know([node])
    offer = counter.offered(node.store_path.hash)
    assert (offer.origin, offer.nar) == (node, node.nar)
    assert counter.journal == [f"asking for {node.uri} (lock node {node.name})", f"market asked {node.uri}"]


def test_a_part_is_given_under_its_statement_and_asked_of_nobody(counter: Counter) -> None:
    counter.keep()
    counter.finder.know([PART])
    offer = counter.offered(PART.path.hash)
    assert (offer.path, offer.nar, offer.origin) == (PART.path, PART.nar, PART)
    assert (offer.references, offer.address) == ((), None)
    assert counter.journal == []


def test_a_part_that_was_changed_is_not_given_and_makes_room(counter: Counter) -> None:
    where = counter.keep(nar_of(b"poison"))
    counter.finder.know([PART])
    assert counter.seek(PART.path.hash) == (True, None)
    assert isinstance(counter.finder.failure, RefusedError)
    assert counter.finder.failure.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert not where.exists()


def test_a_part_whose_archive_is_gone_is_a_miss(counter: Counter) -> None:
    counter.finder.know([PART])
    assert counter.seek(PART.path.hash) == (True, None)
    assert counter.finder.failure is not None


def test_caches_are_asked_for_what_nobody_knows_and_for_nothing_else(counter: Counter) -> None:
    counter.market.caches = Shelf(counter.journal)
    counter.finder.know([TOOL])
    counter.offered(TOOL.store_path.hash)
    assert not [line for line in counter.journal if "cache" in line]
    counter.journal.clear()
    offer = counter.offered(IN_CACHE.path.hash)
    assert offer.origin == Cached(IN_CACHE.path, IN_CACHE.uri, IN_CACHE.nar, IN_CACHE.key)
    assert (offer.references, offer.address) == (IN_CACHE.references, None)
    assert counter.seek("0" * 32) == (True, None)
    assert counter.journal == [
        f"asking for {IN_CACHE.path.hash}.narinfo, of the binary caches",
        f"cache asked {IN_CACHE.path.hash}",
        f"asking for {IN_CACHE.uri} ({IN_CACHE.path}, signed by {IN_CACHE.key})",
        f"cache brings {IN_CACHE.uri}",
        f"asking for {'0' * 32}.narinfo, of the binary caches",
        f"cache asked {'0' * 32}",
    ]
    assert counter.finder.failure is None, "a miss is no failure"


def test_without_caches_what_nobody_knows_is_a_miss_at_once(counter: Counter) -> None:
    assert counter.seek(IN_CACHE.path.hash) == (False, None)
    assert counter.journal == []


def test_what_was_known_of_a_path_stays(counter: Counter) -> None:
    """A derivation that the VM shows later doesn't take the place of a part, nor of a locked tree."""
    counter.keep()
    path = TREE.store_path
    first = KeptPath(path, PART.nar, PART.bundle)
    counter.finder.know([first])
    counter.finder.know([TREE])
    assert counter.offered(path.hash).origin == first


def test_all_refusals_are_told_at_once_and_each_once(counter: Counter) -> None:
    counter.market.files = {}
    counter.finder.know([TOOL, LIBRARY])
    for it in (TOOL, LIBRARY, TOOL):
        assert counter.seek(it.store_path.hash) == (True, None)
    failure = counter.finder.failure
    assert isinstance(failure, RefusedError)
    assert [reason.what for reason in failure.reasons] == [TOOL.uri, LIBRARY.uri]


def test_a_refusal_comes_before_a_failure(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    counter.finder.know([TOOL, LIBRARY])
    counter.market.files = {}
    with monkeypatch.context() as patch:
        patch.setattr(counter.market, "sources", lambda _: broken()())
        counter.seek(TOOL.store_path.hash)
    assert "OSError" in str(counter.finder.failure)
    counter.seek(LIBRARY.store_path.hash)
    assert isinstance(counter.finder.failure, RefusedError)
    assert [line for line in counter.journal if line.startswith("asking for ")], "what fails is on record too"


def test_a_cache_s_answer_that_does_not_count_is_a_miss_and_on_record(counter: Counter) -> None:
    """The VM can build what a cache hasn't got: if something else fails, that is what is told."""
    counter.market.caches = shelf = Shelf(counter.journal, MvmnixError("the cache is down"))
    assert counter.seek("0" * 32) == (True, None)
    shelf.broken = refuse(ReasonCode.CACHE_SIGNATURE, "a narinfo", "nobody trusted signed it", "look at it")
    assert counter.seek("1" * 32) == (True, None)
    assert counter.finder.failure is None
    assert counter.finder.doubt == "the cache is down"
    doubts = [line for line in counter.journal if line.startswith("a binary cache's answer does not count: ")]
    assert [line.partition(": ")[2] for line in doubts] == ["the cache is down", str(shelf.broken)]


def test_a_cache_s_answer_that_does_not_count_is_on_record_where_another_has_it(counter: Counter) -> None:
    counter.market.caches = Shelf(counter.journal, MvmnixError("nobody trusted signed it"))
    counter.offered(IN_CACHE.path.hash)
    assert "a binary cache's answer does not count: nobody trusted signed it" in counter.journal


def broken() -> Callable[[], None]:
    def work() -> None:
        raise OSError("disk")

    return work


def test_an_error_of_the_machine_s_is_a_failure_and_a_miss(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter.market, "sources", lambda _: broken()())
    counter.finder.know([TOOL])
    assert counter.seek(TOOL.store_path.hash) == (True, None)
    assert "OSError" in str(counter.finder.failure)
