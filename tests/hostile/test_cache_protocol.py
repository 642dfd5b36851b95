"""A builder VM that was taken over speaks HTTP to the host: it gets what was offered, or nothing; no memory either."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.session.cache import MAX_HEAD, MAX_WAITING, Connection
from mvmnix.builder.session.ledger import MAX_MISSED, Offer, OfferLedger
from mvmnix.digest import Digest
from mvmnix.formats import nar
from mvmnix.model import HashMode, Source, StorePath

CONTENT = b"a pin's bytes" * 100
PIN = Source("mirror://debian/pool/p/pin.deb", "pin.deb", Digest.of(CONTENT))
NAME = PIN.store_path.hash
UNKNOWN = StorePath.flat("other.deb", PIN.digest).hash
ARCHIVE = b"".join(nar.nar_of_file(len(CONTENT), (CONTENT,)))
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\nContent-Length: (\d+)\r\n\r\n")


@dataclass
class Cache:
    """A ledger with one offer, and how often its bytes were read."""

    ledger: OfferLedger = field(default_factory=OfferLedger)
    reads: int = 0

    def __post_init__(self) -> None:
        self.ledger.offer([Offer.by_content(PIN.store_path, PIN.digest, HashMode.FLAT, self.read)])
        self.reads = 0

    def read(self) -> Iterable[bytes]:
        self.reads += 1
        return nar.nar_of_file(len(CONTENT), (CONTENT,))

    def ask(self, *sent: bytes) -> list[tuple[int, bytes]]:
        """Everything that a connection answers to these pieces."""
        connection = Connection(self.ledger)
        for piece in sent:
            connection.data(piece)
        connection.eof()
        return parse(everything(connection))


def everything(connection: Connection, limit: int = 1000) -> bytes:
    said = bytearray()
    while (piece := connection.pull(limit)) is not None:
        assert len(piece) <= limit
        if not piece:
            break
        said += piece
    return bytes(said)


def parse(said: bytes) -> list[tuple[int, bytes]]:
    """The answers in a stream, which is nothing but answers."""
    found = []
    while said:
        match = ANSWER.match(said)
        assert match, said[:100]
        size = int(match[2])
        body = said[match.end() : match.end() + size]
        assert len(body) == size
        found.append((int(match[1]), body))
        said = said[match.end() + size :]
    return found


def get(path: str, verb: str = "GET") -> bytes:
    return f"{verb} /{path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: curl Nix\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"", None),
        (get(f"{NAME}.narinfo")[:-1], None),  # an unfinished head is not answered
        (get(""), 400),
        (get("/"), 404),
        (get(f"../{NAME}.narinfo"), 404),
        (get(f"nar/../{NAME}.narinfo"), 404),
        (get(f"nar/%2e%2e/{NAME}.nar"), 400),
        (get(f"{NAME}.narinfo?x=1"), 400),
        (get(f"{NAME}.narinfo\0"), 400),
        (get(f"{NAME}.NARINFO"), 400),
        (get(f"{NAME[:-1]}.narinfo"), 404),
        (get(f"{NAME}{NAME}.narinfo"), 404),
        (get(f"{UNKNOWN}.narinfo"), 404),
        (get(f"nar/{UNKNOWN}.nar"), 404),
        (get(f"nar/{NAME}.nar"), 404),  # its narinfo was not asked for yet
        (get(f"{NAME}.narinfo", "PUT"), 400),
        (get(f"{NAME}.narinfo", "get"), 400),
        (get(f"{NAME}.narinfo", "GET http://169.254.169.254"), 400),
        (b"CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n", 400),
        (b"GET http://127.0.0.1/nix-cache-info HTTP/1.1\r\n\r\n", 400),
        (b"GET /nix-cache-info HTTP/1.0\r\n\r\n", 400),
        (b"GET /nix-cache-info HTTP/1.1 \r\n\r\n", 400),
        (b" GET /nix-cache-info HTTP/1.1\r\n\r\n", 400),
        (b"GET\t/nix-cache-info\tHTTP/1.1\r\n\r\n", 400),
        (b"GET /nix-cache-info HTTP/1.1\n\n\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\0" * 100 + b"\r\n\r\n", 400),
        (b"GET /nix-cache-info HTTP/1.1\r\n" + b"A: b\r\n" * 2000 + b"\r\n", 400),
        (b"A" * (MAX_HEAD + 1), 431),
    ],
)
def test_what_others_ask(request_: bytes, status: int | None) -> None:
    cache = Cache()
    answers = cache.ask(request_)
    assert [found for found, _ in answers] == ([] if status is None else [status])
    assert not any(body for _, body in answers)
    assert not cache.ledger.given
    assert cache.reads == 0


def test_nothing_is_read_before_it_is_pulled_and_nothing_is_kept_after_a_reset() -> None:
    cache = Cache()
    connection = Connection(cache.ledger)
    connection.data(get(f"{NAME}.narinfo") + get(f"nar/{NAME}.nar") * 10)
    begun = connection.pull(10)
    assert begun == b"HTTP/1.1 2"
    connection.reset()
    assert connection.pull(10) == b""
    assert cache.reads <= 2 + 10


def test_too_many_at_once_end_the_stream() -> None:
    cache = Cache()
    connection = Connection(cache.ledger)
    connection.data(get("nix-cache-info") * (MAX_WAITING + 5))
    statuses = [status for status, _ in parse(everything(connection))]
    assert statuses == [200] * MAX_WAITING + [400]
    assert connection.pull(1) is None
    connection.data(get("nix-cache-info"))
    assert connection.pull(1) is None, "what follows the end is not looked at"


@pytest.mark.parametrize("sent", [b"\r\n\r\n", b"A" * (MAX_HEAD + 1), get("nix-cache-info"), b"\0"])
def test_a_stream_that_was_given_up_costs_nothing_more(sent: bytes) -> None:
    """Its answers would wait for ever: nobody pulls from a stream that has ended, while the guest may go on sending."""
    connection = Connection(OfferLedger())
    connection.data(b"nonsense\r\n\r\n")
    everything(connection)
    for _ in range(1000):
        connection.data(sent)
    assert (len(connection._answers), len(connection._head)) == (0, 0)


def test_what_is_asked_in_vain_is_remembered_up_to_a_bound() -> None:
    ledger = OfferLedger()
    for number in range(MAX_MISSED + 100):
        assert ledger.narinfo(f"{number:032d}") is None
    assert len(ledger.missed) == MAX_MISSED


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_no_bytes_break_it(pieces: list[bytes]) -> None:
    cache = Cache()
    for status, body in cache.ask(*pieces):
        assert status in {400, 404, 431}
        assert not body
    assert not cache.ledger.given


PATHS = ("nix-cache-info", f"{NAME}.narinfo", f"nar/{NAME}.nar", f"{UNKNOWN}.narinfo", f"nar/{UNKNOWN}.nar", "x")


@given(st.lists(st.sampled_from(PATHS), max_size=30), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_answers_do_not_depend_on_how_requests_arrive(paths: list[str], sizes: list[int]) -> None:
    whole = b"".join(get(path) for path in paths)
    pieces, at, turn = [], 0, 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        pieces.append(whole[at : at + size])
        at, turn = at + size, turn + 1
    together, apart = Cache(), Cache()
    answers = together.ask(whole)
    assert answers == apart.ask(*pieces)
    assert set(together.ledger.given) == set(apart.ledger.given)
    described = False
    for path, (status, body) in zip(paths, answers, strict=True):
        described = described or path == PATHS[1]
        good = path in PATHS[:2] or (path == PATHS[2] and described)
        assert status == (200 if good else 404)
        assert (body == ARCHIVE) == (good and path == PATHS[2])
    assert bool(together.ledger.given) == any(body == ARCHIVE for _, body in answers)
