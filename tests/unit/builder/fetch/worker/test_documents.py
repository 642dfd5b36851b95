"""What the worker makes of documents, and that mvm puts a value in JSON together as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.fetch import parsing
from mvmnix.builder.fetch.resumable import DownloadError
from mvmnix.builder.fetch.worker.documents import (
    BadDocumentError,
    challenge,
    github,
    gitlab,
    immutable,
    json_texts,
    narinfo,
    next_page,
    refs,
    token,
)
from mvmnix.formats.strict import parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\u00e9{[s"), inner, max_size=4),
)


@given(VALUES)
def test_a_value_comes_out_as_mvm_itself_reads_it(value: object) -> None:
    data = json.dumps(value).encode()
    assert parsing._value(iter(json_texts(data)), 32) == parse_json(data) == value


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_how_deep_a_value_may_be(opening: str, closing: str) -> None:
    """By both ends alike, and as mvm reads its own."""
    levels = 32 // len(closing)
    deepest = (opening * levels + "1" + closing * levels).encode()
    texts = json_texts(deepest)
    assert parsing._value(iter(texts), 32) == parse_json(deepest)
    with pytest.raises(BadDocumentError, match="nested deeper than 32 levels"):
        json_texts(b"[" + deepest + b"]")
    with pytest.raises(DownloadError, match="a malformed value"):
        parsing._value(iter(("[1", *texts)), 32)


def test_how_many_values_there_may_be() -> None:
    assert len(json_texts(b"[" + b"0," * 99_999 + b"0]")) == 100_001
    with pytest.raises(BadDocumentError, match="more than 100000 values"):
        json_texts(b"[" + b"0," * 100_000 + b"0]")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff", b"NaN", b"1.5", b"1e3", b"9007199254740992", b'{"a":1,"a":1}', b"[] []"),
        *(b"[" * 34 + b"]" * 34, b"[" * 100_000, b"[" + b"0," * 100_000 + b"0]"),
    ],
)
def test_no_value(data: bytes) -> None:
    with pytest.raises(BadDocumentError):
        json_texts(data)


@pytest.mark.parametrize(
    "texts",
    [
        *(["x"], ["t1"], ["i"], ["i1.5"], ["i1e3"], ["i" + "9" * 17], ["i\u0661"], ["["], ["[-1"], ["{1000000"]),
        *(["{2", "a", "n", "a", "n"], ["[1"] * 34 + ["n"], [""]),
    ],
)
def test_texts_that_are_no_value(texts: list[str]) -> None:
    with pytest.raises(DownloadError, match="a malformed value"):
        parsing._value(iter(texts), 32)


def test_fields_of_a_narinfo_in_their_order() -> None:
    assert narinfo(b"URL: a\nSystem: x\nSig: b\nSig: c\n") == ("URL", "a", "Sig", "b", "Sig", "c")


def test_the_line_of_a_narinfo_that_is_none() -> None:
    with pytest.raises(BadDocumentError, match=r"^line 2 is not `Name: value`$"):
        narinfo(b"URL: a\nURL\n")


def test_commits() -> None:
    assert github(b'{"sha": "1", "node_id": "x"}') == ("1",)
    assert gitlab(b'[{"id": "1"}, {"id": "2"}]') == ("1",)
    for parse, data in ((github, b'[{"sha": "1"}]'), (github, b"{}"), (gitlab, b"[]"), (gitlab, b'{"id": "1"}')):
        with pytest.raises(BadDocumentError, match=r"there is no (sha|id) in its answer"):
            parse(data)


def test_tokens() -> None:
    assert token(b'{"access_token": "b", "token": "a", "expires_in": 60}') == ("a",)
    assert token(b'{"access_token": "b"}') == ("b",)
    for data in (b"{}", b"[]", b'{"token": 1}', b'"token"', b'{"token": null}'):
        with pytest.raises(BadDocumentError):
            token(data)


def test_challenges() -> None:
    assert challenge(b'Bearer realm="https://a/b",service="c d", scope="e"') == ("https://a/b", "c d")
    assert challenge(b'bearer REALM="x"') == ("x", "")
    assert challenge(b'Bearer realm="x",realm="y" , service="z"') == ("x", "z")
    assert challenge(b'Bearer realm="%s"' % (b"x" * 1024)) == ("x" * 1024, "")
    for data in (
        b"",
        b"Bearer",
        b'Basic realm="x"',
        b"Bearer realm=x",
        b'Bearer realm="x";a',
        b'Bearer service="x"',
        b'Bearer a realm="x"',
    ):
        with pytest.raises(BadDocumentError):
            challenge(data)


def test_links() -> None:
    assert immutable(b'<https://a>; rel="next", <https://b?c>; rel="immutable"') == ("https://b?c",)
    assert immutable(b'<https://a>; rel="next"') == ()
    assert immutable(b"<" * 16384) == ()


@pytest.mark.parametrize(
    ("field", "targets"),
    [
        (b'</v2/x?last=1>; rel="next"', ("/v2/x?last=1",)),
        (b"<?n=1,2;x>;rel=next", ("?n=1,2;x",)),
        (b'<a> ; title="b, <c>; rel=\\"next\\"" ;REL = "prev NEXT" ;x', ("a",)),
        (b"<a>; rel=prev, <b>; rel=next, <c>", ("b",)),
        (b"<a>; rel=next, <a>; rel=next", ("a",)),
        (b"<a>; rel=prev; rel=next", ()),
        (b"<a>; rel=next; anchor=other", ()),
        (b"<a>; rel=nextish, <b>; rel, <c>; rel=", ()),
        (b"<>; rel=next", ("",)),
        (b"<\xe9>; rel=next", ("\xe9",)),
        (b", <a>; rel=next, ,", ("a",)),
        (b"", ()),
    ],
)
def test_the_next_page(field: bytes, targets: tuple[str, ...]) -> None:
    """RFC 8288, section 3."""
    assert next_page(field) == targets


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (b"a; rel=next", "not a list of links"),
        (b"<a; rel=next", "not a list of links"),
        (b"<a>; rel=next <b>", "not a list of links"),
        (b'<a>; rel="next', "not a list of links"),
        (b"<a>; =next", "not a list of links"),
        (b"<a>; rel=next, <b>; rel=next", "more than one next page"),
        (b"<" * 16384, "not a list of links"),
        (b"<a>;" * 4096, "not a list of links"),
        (b"<a>; x" + b" " * 16384 + b"<", "not a list of links"),
        (b'<a>; x="' + b"\\" * 16384, "not a list of links"),
    ],
)
def test_a_link_field_that_is_none(field: bytes, why: str) -> None:
    with pytest.raises(BadDocumentError, match=why):
        next_page(field)


def test_refs() -> None:
    assert refs(b"1\ta\n2\tb\nodd\n") == ("a", "1", "b", "2", "", "odd")
