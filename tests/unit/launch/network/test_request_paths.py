"""Paths of requests: which spellings are the same path, which are of more than one meaning."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.launch.network.request_paths import is_beneath, may_be_beneath, segments_of


@pytest.mark.parametrize(
    ("target", "segments"),
    [
        ("/", ("",)),
        ("/v1", ("v1",)),
        ("/v1/", ("v1", "")),
        ("/v1/items?next=/../x&y=%2e%2e", ("v1", "items")),
        ("/%76%31", ("v1",)),
        ("/a%20b/%C3%a4", ("a%20b", "%C3%A4")),
        ("/a;b=c/d,e", ("a;b=c", "d,e")),
        ("/..a/a../...", ("..a", "a..", "...")),
    ],
)
def test_a_path_of_one_meaning(target: str, segments: tuple[str, ...]) -> None:
    assert segments_of(target) == segments


@pytest.mark.parametrize(
    "target",
    [
        *("", "*", "v1", "http://api.example.com/v1", "api.example.com:443", "?x"),
        *("/..", "/.", "/v1/../admin", "/v1/./x", "/v1/..;/admin", "/v1/.;x=y/admin", "/v1/%2e%2e/admin", "/v1/.%2E"),
        *("/v1/%2e%2e;x/admin", "/v1%2fadmin", "/v1%5cadmin", "/v1\\..\\admin", "/v1/..%00", "/v1%0a", "/%252e%252e/x"),
        *(
            "//",
            "//admin",
            "/v1//admin",
            "/v1///",
            "/a b",
            "/ä",
            "/a#b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/%u002e",
            "/a\x00",
            "/a\t",
        ),
        *('/"', "/<", "/|", "/^", "/`", "/{}", "/[1]"),
    ],
)
def test_a_path_of_more_than_one_meaning_is_none(target: str) -> None:
    assert segments_of(target) is None


@pytest.mark.parametrize(
    ("target", "prefix", "allowed", "denied"),
    [
        ("/v1", "/v1", True, True),
        ("/v1/", "/v1", True, True),
        ("/v1/x", "/v1", True, True),
        ("/%761/x", "/v1", True, True),
        ("/v1x", "/v1", False, False),
        ("/v", "/v1", False, False),
        ("/", "/v1", False, False),
        ("/v2/v1", "/v1", False, False),
        ("/V1", "/v1", False, True),
        ("/v1;a=b/x", "/v1", False, True),
        ("/v1%3bx", "/v1", False, True),
        ("/v1", "/v1/", False, False),
        ("/v1/", "/v1/", True, True),
        ("/v1/x", "/v1/", True, True),
        ("/v1/x/y", "/v1/x", True, True),
        ("/", "/", True, True),
        ("/x", "/", True, True),
    ],
)
def test_beneath_a_prefix(target: str, prefix: str, allowed: bool, denied: bool) -> None:
    segments = segments_of(target)
    assert segments is not None
    assert is_beneath(segments, prefix) is allowed
    assert may_be_beneath(segments, prefix) is denied


SEGMENT = st.text(string.ascii_letters + string.digits + "._~-", min_size=1, max_size=8).filter(
    lambda it: it.strip(".")
)


@given(st.lists(SEGMENT, min_size=1, max_size=4), st.lists(SEGMENT, max_size=3), st.data())
def test_escapes_that_are_not_needed_change_nothing(wanted: list[str], rest: list[str], data: st.DataObject) -> None:
    def escaped(text: str) -> str:
        return "".join(f"%{ord(it):02x}" if data.draw(st.booleans()) else it for it in text)

    segments = segments_of("/" + "/".join(map(escaped, (*wanted, *rest))))
    assert segments == (*wanted, *rest)
    assert is_beneath(segments, "/" + "/".join(wanted))
    assert may_be_beneath(segments, "/" + "/".join(wanted))


@given(st.text(max_size=40))
def test_what_is_beneath_an_allowed_prefix_begins_with_it_in_every_reading(target: str) -> None:
    segments = segments_of("/" + target)
    if segments is not None:
        assert not {".", ".."} & set(segments)
        assert segments == tuple("/".join(segments).split("/"))
