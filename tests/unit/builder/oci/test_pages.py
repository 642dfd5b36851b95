"""Where the next page of a list may be: at the list's own address."""

import pytest

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.oci.registry import page_after
from mvmnix.formats.strict import MalformedError

ALLOWED = Allowlist(frozenset({"registry.test", "other.test", "registry.test:8443"}), frozenset({"http://127.0.0.1:1"}))
PATH = "referrers/sha256:0123"
ASKED = f"https://registry.test/v2/team/app/{PATH}"


def following(target: str, *, path: str = PATH, answered: str = ASKED) -> str:
    return page_after(path, f"https://registry.test/v2/team/app/{path}", answered, target, ALLOWED)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("?last=1", f"{PATH}?last=1"),
        ("./sha256:0123?last=1&n=2", f"{PATH}?last=1&n=2"),
        (f"/v2/team/app/{PATH}?last=1", f"{PATH}?last=1"),
        ("/v2/team/app/referrers/sha256%3A0123?last=%2F", f"{PATH}?last=%2F"),
        (f"https://registry.test/v2/team/app/{PATH}?last=1", f"{PATH}?last=1"),
        (f"https://registry.test:443/v2/team/app/{PATH}?last=../..", f"{PATH}?last=../.."),
        (f"//REGISTRY.test/v2/team/app/{PATH}?last=1#here", f"{PATH}?last=1"),
        ("", PATH),
        ("?", PATH),
    ],
)
def test_the_list_s_own_address(target: str, path: str) -> None:
    assert following(target) == path
    assert following(target, path=f"{PATH}?last=0", answered=f"{ASKED}?last=0") in {path, f"{PATH}?last=0"}


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (f"https://other.test/v2/team/app/{PATH}?last=1", "elsewhere: https://other.test/"),
        (f"https://registry.test:8443/v2/team/app/{PATH}?last=1", "elsewhere: https://registry.test:8443/"),
        (f"http://127.0.0.1:1/v2/team/app/{PATH}?last=1", "from https to http"),
        (f"http://registry.test/v2/team/app/{PATH}?last=1", "only https"),
        (f"https://unlisted.test/v2/team/app/{PATH}?last=1", "not on the list"),
        (f"https://me@registry.test/v2/team/app/{PATH}?last=1", "without user information"),
        ("file:///etc/passwd", "not a plain http or https URL"),
        ("sha256:0123?last=1", "not a plain http or https URL"),
        ("https:[", "elsewhere"),
        ("//[", "it is not an address"),
        ("?last=a b", "not a plain"),
        ("?last=\\", "not a plain"),
        ("?last=\xe9", "not a plain"),
        ("?" + "x" * 4096, "not a plain"),
        ("/v2/team/other/referrers/sha256:0123?last=1", "elsewhere: https://registry.test/v2/team/other/"),
        ("/v2/team/app/referrers/sha256:4567?last=1", "elsewhere"),
        ("/v2/team/app/blobs/sha256:0123?last=1", "elsewhere"),
        (f"/v2/team/app/{PATH}/more?last=1", "elsewhere"),
        (f"/v2/team/app/{PATH}/../sha256:0123/?last=1", "elsewhere"),
        (f"/v2/team/app/{PATH}%3Flast=1", "elsewhere"),
        ("/v2/team%2Fother/referrers/sha256:0123", "elsewhere"),
        ("/", "elsewhere"),
    ],
)
def test_elsewhere(target: str, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        following(target)


def test_a_list_that_was_redirected() -> None:
    """What its links are relative to is where it was in the end; from there a full address may lead back."""
    there = "https://other.test/lists/1"
    with pytest.raises(MalformedError, match=r"elsewhere: https://other\.test/lists/1\?last=1"):
        following("?last=1", answered=there)
    assert following(f"{ASKED}?last=1", answered=there) == f"{PATH}?last=1"
