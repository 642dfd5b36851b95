"""Paths of requests: which spellings are the same path, which are of more than one meaning."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.network.policy.request_paths import is_beneath, may_be_beneath, segments_of


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
        ("/..a/a../a...b", ("..a", "a..", "a...b")),
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
        # dots with blanks and punctuation, to which some servers give no meaning
        *("/...", "/.%20", "/..%20/x", "/..;", "/..,/x", "/..:/x", "/..%3f/x", "/..%23", "/.%E2%80%8B./x", "/.~/x"),
        # empty without their parameters and blanks
        *("/;/admin", "/;x=y", "/v1/%3Bx/y", "/%20/x", "/v1/%3F", "/%23x/admin", "/%C2%AD/x", "/%E3%80%80"),
        # not UTF-8: a byte alone, one too few, overlong, a surrogate, beyond Unicode
        *("/%ff", "/%c3", "/%c0%af", "/%c0%ae%c0%ae/x", "/%e0%80%af", "/%ed%a0%80", "/%f4%90%80%80", "/a%c3b%a4"),
        # folds to what a path is made of
        *("/%ef%bc%8f", "/%ef%bc%bc", "/%ef%bc%8e", "/%e2%80%a4", "/%e2%80%a6", "/%ef%bc%85", "/%ef%bc%9b", "/%cd%be"),
        *("/%ef%bc%9f", "/%ef%bc%83", "/%e2%84%80", "/%c2%85"),
        *("/%e2%81%84", "/..%e2%88%95x", "/%e2%88%96", "/%e2%a7%b5", "/%e2%a7%b8"),
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
        *(
            (f"/{it}/x", "/v1", False, True)
            for it in ("v1.", "v1%20", "v1.%20.", "v1:x", "v1%3F", "v1%23x", "v%C2%AD1")
        ),
        *((f"/{it}", "/disk", False, True) for it in ("DI%C5%BFK", "d%C4%B1sk", "%EF%BD%84isk", "dis%E2%84%AA")),
        ("/a:b", "/a:b", True, True),
        ("/a:b", "/a", False, True),
        ("/a", "/a:b", False, False),
        ("/a.b", "/a", False, False),
        ("/%C3%84", "/A", False, False),
    ],
)
def test_beneath_a_prefix(target: str, prefix: str, allowed: bool, denied: bool) -> None:
    segments = segments_of(target)
    assert segments is not None
    assert is_beneath(segments, prefix) is allowed
    assert may_be_beneath(segments, prefix) is denied


SEGMENT = st.text(string.ascii_letters + string.digits + "._~-", min_size=1, max_size=8).filter(
    lambda it: any(map(str.isalnum, it))
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
