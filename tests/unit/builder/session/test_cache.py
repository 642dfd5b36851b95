"""The binary cache's side of HTTP, as an honest Nix uses it; others: tests/hostile/test_cache_protocol.py."""

import pytest

from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.ledger import Offer, OfferLedger
from mvmnix.digest import Digest
from mvmnix.model import HashMode, Source
from tests.fakes import get, nar_of, pulled, source

DEB = source("a.deb", b"debian" * 100)
TREE = Source("path:x", "source", Digest.of(nar_of(b"tree")), HashMode.NAR)


@pytest.fixture
def ledger() -> OfferLedger:
    made = OfferLedger()
    made.offer([Offer.by_content(DEB.store_path, DEB.digest, DEB.mode, lambda: (nar_of(b"debian" * 100),))])
    made.offer([Offer.by_content(TREE.store_path, TREE.digest, TREE.mode, lambda: iter([nar_of(b"tree")]))])
    return made


def ask(ledger: OfferLedger, *requests: str, limit: int = 65536) -> bytes:
    connection = Connection(ledger)
    connection.data("".join(f"{request} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n" for request in requests).encode())
    connection.eof()
    return b"".join(pulled(connection, limit))


def test_the_dialogue_of_a_download(ledger: OfferLedger) -> None:
    name = DEB.store_path.hash
    info = b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n"
    assert ask(ledger, "GET /nix-cache-info") == b"HTTP/1.1 200 OK\r\nContent-Length: 51\r\n\r\n" + info
    archive = nar_of(b"debian" * 100)
    described = get(Connection(ledger), f"{name}.narinfo")
    assert described is not None
    assert dict(line.split(": ", 1) for line in described.decode().splitlines()) == {
        "StorePath": str(DEB.store_path),
        "URL": f"nar/{name}.nar",
        "Compression": "none",
        "NarHash": f"sha256:{Digest.of(archive).nix32}",
        "NarSize": str(len(archive)),
        "References": "",
        "CA": f"fixed:sha256:{DEB.digest.nix32}",
    }
    assert not ledger.given, "to describe is not to give"
    assert get(Connection(ledger), f"nar/{name}.nar") == archive
    assert list(ledger.given) == [name]
    assert not ledger.missed


def test_a_tree_is_addressed_by_its_archive(ledger: OfferLedger) -> None:
    described = get(Connection(ledger), f"{TREE.store_path.hash}.narinfo")
    assert described is not None
    assert f"CA: fixed:r:sha256:{TREE.digest.nix32}\n".encode() in described
    assert f"NarHash: sha256:{TREE.digest.nix32}\n".encode() in described


def test_a_miss_is_remembered(ledger: OfferLedger) -> None:
    assert ask(ledger, f"GET /{'0' * 32}.narinfo") == b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    assert ledger.missed == {"0" * 32}
    assert get(Connection(ledger), f"nar/{'0' * 32}.nar") is None
    assert get(Connection(ledger), f"nar/{DEB.store_path.hash}.nar") is None, "not before its narinfo was read"
    assert not ledger.given


def test_head_says_the_length_and_no_more(ledger: OfferLedger) -> None:
    described = ask(ledger, f"HEAD /{DEB.store_path.hash}.narinfo")
    assert described.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: ")
    assert described.endswith(b"\r\n\r\n")
    assert ask(ledger, f"HEAD /{'0' * 32}.narinfo").startswith(b"HTTP/1.1 404 ")


def test_requests_in_a_row_are_answered_in_a_row(ledger: OfferLedger) -> None:
    name = DEB.store_path.hash
    requests = [f"GET /{name}.narinfo", f"GET /{'0' * 32}.narinfo", f"GET /nar/{name}.nar", "GET /nix-cache-info"]
    alone = b"".join(ask(ledger, request) for request in requests)
    assert ask(ledger, *requests) == alone
    for limit in (1, 7, 1000):
        assert ask(ledger, *requests, limit=limit) == alone


def test_a_connection_that_stays_open(ledger: OfferLedger) -> None:
    connection = Connection(ledger)
    assert connection.pull(10) == b""
    for _ in range(3):
        connection.data(b"GET /nix-cache-info HTTP/1.1\r\n")
        assert connection.pull(10) == b""
        connection.data(b"\r\n")
        assert b"".join(pulled(connection)).endswith(b"Priority: 30\n")
    connection.eof()
    assert connection.pull(10) is None


def test_what_was_asked_before_the_end_is_still_answered(ledger: OfferLedger) -> None:
    connection = Connection(ledger)
    connection.data(b"GET /nix-cache-info HTTP/1.1\r\n\r\n")
    connection.eof()
    assert connection.pull(5) == b"HTTP/"
    assert b"".join(pulled(connection)).endswith(b"Priority: 30\n")
    assert connection.pull(5) is None


def test_the_archive_of_an_answer_is_read_when_it_is_its_turn(ledger: OfferLedger) -> None:
    reads = []

    def archive() -> "list[bytes]":
        reads.append(1)
        return [nar_of(b"x")]

    lazy = source("lazy", b"x")
    ledger.offer([Offer.by_content(lazy.store_path, lazy.digest, lazy.mode, archive)])
    get(Connection(ledger), f"{lazy.store_path.hash}.narinfo")
    assert len(reads) == 1
    get(Connection(ledger), f"{lazy.store_path.hash}.narinfo")
    assert len(reads) == 1, "hashed once"
