"""Answers that wait for a search, and what becomes of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.ledger import Offer, OfferLedger
from mvmnix.digest import Digest
from mvmnix.model import HashMode, StorePath
from tests.fakes import nar_of

ARCHIVE = nar_of(b"late")
PATH = StorePath.recursive("late", Digest.of(ARCHIVE))
OFFER = Offer.by_content(PATH, Digest.of(ARCHIVE), HashMode.NAR, lambda: (ARCHIVE,))
GET = f"GET /{PATH.hash}.narinfo HTTP/1.1\r\n\r\n".encode()
INFO = b"GET /nix-cache-info HTTP/1.1\r\n\r\n"


@dataclass
class Slow:
    """A seeker that finds when it is told to."""

    hopeless: bool = False
    searches: dict[str, Callable[[Offer | None], None]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def seek(self, name: str, offer: Callable[[Offer | None], None]) -> bool:
        self.begun.append(name)
        self.searches[name] = offer
        return not self.hopeless


@dataclass
class Asking:
    """A guest that asks, and hears when an answer is there."""

    ledger: OfferLedger
    woken: int = 0

    def __post_init__(self) -> None:
        self.connection = Connection(self.ledger, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def heard(self) -> bytes:
        said = b""
        while piece := self.connection.pull(1 << 16):
            said += piece
        return said


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_an_answer_waits_for_its_search_and_those_behind_it_for_their_turn(slow: Slow) -> None:
    guest = Asking(OfferLedger(slow))
    guest.connection.data(GET + INFO)
    assert (guest.heard(), guest.woken) == (b"", 0)
    slow.searches[PATH.hash](OFFER)
    assert guest.woken == 1
    said = guest.heard()
    assert f"StorePath: {PATH}\n".encode() in said
    assert said.index(b"StorePath") < said.index(b"WantMassQuery")


def test_two_who_ask_wait_for_the_same_search(slow: Slow) -> None:
    ledger = OfferLedger(slow)
    guests = [Asking(ledger), Asking(ledger)]
    for guest in guests:
        guest.connection.data(GET)
    assert slow.begun == [PATH.hash]
    slow.searches[PATH.hash](OFFER)
    assert [guest.woken for guest in guests] == [1, 1]
    assert all(b"200 OK" in guest.heard() for guest in guests)
    guests[0].connection.data(GET)
    assert slow.begun == [PATH.hash], "what is offered is not looked for"


@pytest.mark.parametrize("found", [None, Offer(StorePath("0" * 32, "other"), OFFER.nar, 1, lambda: ())])
def test_nothing_found_or_another_path_is_a_miss_for_good(slow: Slow, found: Offer | None) -> None:
    guest = Asking(OfferLedger(slow))
    guest.connection.data(GET)
    slow.searches[PATH.hash](found)
    assert guest.heard().startswith(b"HTTP/1.1 404 ")
    guest.connection.data(GET)
    assert guest.heard().startswith(b"HTTP/1.1 404 ")
    assert slow.begun == [PATH.hash]


def test_a_miss_may_be_forgiven(slow: Slow) -> None:
    ledger = OfferLedger(slow)
    guest = Asking(ledger)
    guest.connection.data(GET)
    slow.searches[PATH.hash](None)
    guest.heard()
    ledger.forget_misses([PATH.hash])
    guest.connection.data(GET)
    assert slow.begun == [PATH.hash] * 2


def test_who_has_gone_is_not_woken(slow: Slow) -> None:
    guest = Asking(OfferLedger(slow))
    guest.connection.data(GET)
    guest.connection.reset()
    slow.searches[PATH.hash](OFFER)
    assert guest.woken == 0


def test_what_nobody_could_have_is_a_miss_at_once(slow: Slow) -> None:
    slow.hopeless = True
    guest = Asking(OfferLedger(slow))
    guest.connection.data(GET)
    assert guest.heard().startswith(b"HTTP/1.1 404 ")
    assert guest.connection.pull(10) == b""
    guest.connection.eof()
    assert guest.connection.pull(10) is None


def test_a_stream_that_ends_is_still_answered(slow: Slow) -> None:
    guest = Asking(OfferLedger(slow))
    guest.connection.data(GET)
    guest.connection.eof()
    assert guest.connection.pull(10) == b""
    slow.searches[PATH.hash](OFFER)
    assert guest.heard().startswith(b"HTTP/1.1 200 ")
    assert guest.connection.pull(10) is None


def test_a_path_that_is_named_by_what_it_was_built_from_has_no_address() -> None:
    other = StorePath("1" * 32, "lib")
    text = Offer(PATH, OFFER.nar, OFFER.size, lambda: (ARCHIVE,), references=(other, PATH)).narinfo.decode()
    assert f"References: {other.hash}-lib {PATH.hash}-late\n" in text
    assert "CA:" not in text
