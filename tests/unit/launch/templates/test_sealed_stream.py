"""Sealed streams: they open as what was sealed, whole and in order, under their own key and name, or not at all."""

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvmnix.launch.templates import sealed_stream
from mvmnix.launch.templates.sealed_stream import CHUNK, KEY_BYTES, open_stream, sealed_chunks

KEY, OTHER_KEY = bytes(KEY_BYTES), b"\1" * KEY_BYTES
ABOUT = b"what it is about"
#: Plain bytes of a chunk in most of these tests, and of its tag; of what precedes the first one.
SMALL, TAG, HEAD = 64, 16, len(b"mvmnix sealed stream 1\n") + 32


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_stream, "CHUNK", SMALL)


small = pytest.mark.usefixtures("_small_chunks")
#: For tests of many examples that all have small chunks.
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def sealed(data: bytes, *, key: bytes = KEY, about: bytes = ABOUT) -> bytes:
    file = io.BytesIO()
    file.writelines(sealed_chunks(key, about, [data]))
    return file.getvalue()


def opened(stream: bytes, *, key: bytes = KEY, about: bytes = ABOUT) -> bytes:
    return b"".join(open_stream(key, about, io.BytesIO(stream)))


def refused(stream: bytes, plain: bytes, *, key: bytes = KEY, about: bytes = ABOUT) -> str:
    """Why it doesn't open; what comes out before is the beginning of what was sealed, in whole chunks."""
    found = bytearray()
    with pytest.raises(ValueError) as caught:
        for chunk in open_stream(key, about, io.BytesIO(stream)):
            found += chunk
    assert plain.startswith(found)
    assert len(found) % SMALL == 0
    assert len(found) < len(plain) or not plain, "what is whole doesn't fail"
    return str(caught.value)


def chunks(stream: bytes) -> tuple[bytes, list[bytes]]:
    """What precedes the chunks of a stream of small ones, and these."""
    size = SMALL + TAG
    return stream[:HEAD], [stream[at : at + size] for at in range(HEAD, len(stream), size)]


@small
@many
@given(st.lists(st.binary(max_size=3 * SMALL), max_size=5))
def test_what_was_sealed_opens_in_whatever_portions_it_came(portions: list[bytes]) -> None:
    file = io.BytesIO()
    file.writelines(sealed_chunks(KEY, ABOUT, portions))
    assert opened(file.getvalue()) == b"".join(portions)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_at_the_bounds_of_a_chunk(size: int) -> None:
    data = bytes(size)
    stream = sealed(data)
    assert opened(stream) == data
    assert len(stream) == HEAD + size + TAG * max(1, -(-size // CHUNK))


def test_the_same_bytes_are_sealed_otherwise_each_time() -> None:
    assert sealed(b"the same")[HEAD:] != sealed(b"the same")[HEAD:]


PLAIN = bytes(range(256)) + b"and a part"


@small
@pytest.mark.parametrize("plain", [b"", PLAIN[: 2 * SMALL], PLAIN], ids=["empty", "full chunks", "a part at the end"])
def test_one_that_is_cut_off_anywhere(plain: bytes) -> None:
    stream = sealed(plain)
    for size in range(len(stream)):
        refused(stream[:size], plain)


@small
def test_one_that_was_cut_off_behind_a_chunk_yields_what_precedes_that() -> None:
    head, (first, second, *_) = chunks(sealed(PLAIN))
    found = list[bytes]()
    with pytest.raises(ValueError, match="its chunk 1 is not what was sealed"):
        for chunk in open_stream(KEY, ABOUT, io.BytesIO(head + first + second)):
            found.append(chunk)
    assert found == [PLAIN[:SMALL]]
    assert refused(head + first + second, PLAIN) == "its chunk 1 is not what was sealed"


@small
@many
@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
def test_one_with_another_byte(at: int, by: int) -> None:
    stream = bytearray(sealed(PLAIN))
    at = at * len(stream) // len(PLAIN)
    stream[at] ^= by
    refused(bytes(stream), PLAIN)


@small
def test_chunks_that_are_swapped_left_out_doubled_or_added() -> None:
    stream = sealed(PLAIN)
    head, (first, second, *others) = chunks(stream)
    rest = b"".join(others)
    assert refused(head + second + first + rest, PLAIN) == "its chunk 0 is not what was sealed"
    assert refused(head + first + rest, PLAIN) == "its chunk 1 is not what was sealed"
    assert refused(head + first + first + second + rest, PLAIN) == "its chunk 1 is not what was sealed"
    last = len(others) + 1
    assert refused(stream + others[-1], PLAIN) == f"its chunk {last} is not what was sealed"
    assert refused(stream + b"x", PLAIN) == f"its chunk {last} is not what was sealed"


@small
def test_a_chunk_of_another_stream_of_the_same_key() -> None:
    head, (first, *rest) = chunks(sealed(PLAIN))
    _, (other, *_) = chunks(sealed(PLAIN))
    assert refused(head + other + b"".join(rest), PLAIN) == "its chunk 0 is not what was sealed"
    assert opened(head + first + b"".join(rest)) == PLAIN


def test_it_opens_under_its_own_key_and_name_alone() -> None:
    stream = sealed(PLAIN)
    assert refused(stream, PLAIN, key=OTHER_KEY) == "its chunk 0 is not what was sealed"
    assert refused(stream, PLAIN, about=ABOUT + b".") == "its chunk 0 is not what was sealed"
    assert opened(stream) == PLAIN


@pytest.mark.parametrize(
    "stream",
    [b"", b"mvmnix", b"mvmnix sealed stream 2\n" + bytes(99), b"\0" * 200],
    ids=["empty", "cut off", "another version", "zeros"],
)
def test_what_is_no_sealed_stream(stream: bytes) -> None:
    assert refused(stream, b"") == "it is not a sealed stream"


def test_a_stream_without_a_chunk() -> None:
    assert refused(sealed(PLAIN)[:HEAD], PLAIN) == "it has no chunk"


@pytest.mark.parametrize("size", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match="a sealing key has 32 bytes"):
        sealed(b"", key=bytes(size))


@small
def test_it_has_no_more_chunks_than_there_are_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_stream, "_MOST", 2)
    assert opened(sealed(bytes(2 * SMALL))) == bytes(2 * SMALL)
    with pytest.raises(ValueError, match="at most 2 chunks"):
        sealed(bytes(2 * SMALL + 1))
