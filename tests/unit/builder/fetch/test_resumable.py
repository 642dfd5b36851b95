"""The body of a download out of several answers, in order and once; and how long it waits before it asks again."""

import hashlib

import pytest

from mvmnix.builder.fetch.resumable import LONGEST, BrokenError, ChangedError, Transfer, pause
from mvmnix.errors import ReasonCode, RefusedError


def transfer(limit: int = 100) -> tuple[Transfer, bytearray]:
    data = bytearray()
    return Transfer("https://sources.example/x", data.extend, limit), data


def test_the_rest_is_asked_for_by_a_strong_etag_only() -> None:
    for etag, asked in (('"a"', True), ('W/"a"', False), ("a", False), ('"a"b"', False), ("", False)):
        it, _ = transfer()
        it.begin(200, {"etag": etag}, 10)
        it.take(b"12345")
        assert it.headers() == ({"Range": "bytes=5-", "If-Range": etag} if asked else {})


def test_nothing_is_asked_for_the_rest_of_nothing() -> None:
    it, _ = transfer()
    it.begin(200, {"etag": '"a"'}, 10)
    assert it.headers() == {}


def test_it_goes_on() -> None:
    it, data = transfer()
    it.begin(200, {"etag": '"a"'}, 10)
    it.take(b"12345")
    it.begin(206, {"etag": '"a"', "content-range": "bytes 5-9/10"}, 5)
    it.take(b"67890")
    it.end()
    assert data == b"1234567890"


@pytest.mark.parametrize(
    "headers",
    [
        {"etag": '"b"', "content-range": "bytes 5-9/10"},
        {"content-range": "bytes 5-9/10"},
        {"etag": '"a"', "content-range": "bytes 4-9/10"},
        {"etag": '"a"', "content-range": "bytes 5-10/11"},
        {"etag": '"a"', "content-range": "items 5-9/10"},
        {"etag": '"a"'},
    ],
)
def test_another_part_is_not_taken_and_the_next_question_is_for_the_whole(headers: dict[str, str]) -> None:
    it, data = transfer()
    it.begin(200, {"etag": '"a"'}, 10)
    it.take(b"12345")
    with pytest.raises(BrokenError):
        it.begin(206, headers, 5)
    assert (it.headers(), bytes(data)) == ({}, b"12345")


@pytest.mark.parametrize("etag", [None, 'W/"a"', ""])
def test_an_unsolicited_part_is_not_taken(etag: str | None) -> None:
    """Without a strong ETag there is no saying that it is a part of the same file."""
    headers = {} if etag is None else {"etag": etag}
    it, data = transfer()
    it.begin(200, headers, 10)
    it.take(b"12345")
    with pytest.raises(BrokenError, match="another part"):
        it.begin(206, {**headers, "content-range": "bytes 5-9/10"}, 5)
    assert data == b"12345"


def test_the_callers_own_digest_tells_whether_it_is_the_same() -> None:
    for start, same in ((b"12345678", True), (b"12X45678", False)):
        data = bytearray()
        it = Transfer("https://sources.example/x", data.extend, 100, lambda: hashlib.sha256(data).hexdigest())  # noqa: B023
        it.begin(200, {}, 10)
        it.take(b"12345")
        it.begin(200, {}, 10)
        if same:
            it.take(start)
            it.take(b"90")
            it.end()
            assert data == b"1234567890"
        else:
            with pytest.raises(ChangedError):
                it.take(start)
            assert data == b"12345"


def test_from_the_start_it_has_to_be_the_same() -> None:
    it, data = transfer()
    it.begin(200, {}, 10)
    it.take(b"12345")
    it.begin(200, {}, 10)
    for piece in (b"12", b"3456", b"7890"):
        it.take(piece)
    it.end()
    assert data == b"1234567890"


def test_from_the_start_and_another() -> None:
    it, data = transfer()
    it.begin(200, {}, 10)
    it.take(b"12345")
    it.begin(200, {}, 10)
    with pytest.raises(ChangedError):
        it.take(b"12x4567890")
    assert data == b"12345"


def test_from_the_start_and_shorter() -> None:
    it, _ = transfer()
    it.begin(200, {}, None)
    it.take(b"12345")
    it.begin(200, {}, None)
    it.take(b"123")
    with pytest.raises(ChangedError):
        it.end()


def test_the_limit_counts_what_is_written() -> None:
    it, data = transfer(limit=6)
    it.begin(200, {}, None)
    it.take(b"12345")
    it.begin(200, {}, None)
    it.take(b"123456")
    with pytest.raises(RefusedError) as refusal:
        it.take(b"7")
    assert refusal.value.codes == (ReasonCode.FETCH_LIMIT,)
    assert data == b"123456"


def test_what_is_announced_counts_too() -> None:
    it, _ = transfer(limit=6)
    with pytest.raises(RefusedError):
        it.begin(200, {}, 7)
    it.begin(200, {}, 6)
    it.take(b"12345")
    with pytest.raises(BrokenError, match="5 bytes of 6"):
        it.end()


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_the_pause_grows_and_stays_bounded(jitter: float) -> None:
    pauses = [pause(attempt, None, jitter=jitter) or 0.0 for attempt in range(1, 40)]
    assert pauses == sorted(pauses)
    assert 0 < pauses[0] < 1
    assert pauses[-1] <= LONGEST


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("7", 7.0),
        ("0", 0.25),
        ("60", 60.0),
        ("61", None),
        ("99999999999999999999", None),
        ("Sat, 31 Jan 2026 12:00:09 GMT", 0.25),
        ("-5", 0.25),
        ("soon", 0.25),
        ("", 0.25),
        ("\u0667", 0.25),
    ],
)
def test_what_a_server_asks_for_is_heeded_within_bounds(said: str, wait: float | None) -> None:
    assert pause(1, said, jitter=0.0) == wait
