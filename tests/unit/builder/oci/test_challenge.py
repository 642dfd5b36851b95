"""What a registry asks for before it answers, and what the token service's answer may be."""

import pytest

from mvmnix.builder.oci.registry import parse_token, token_url
from mvmnix.errors import MvmnixError


@pytest.mark.parametrize("texts", [(), ("https://auth.example/token",), ("a", "b", "c")])
def test_what_is_no_challenge_for_a_bearer_token(texts: tuple[str, ...]) -> None:
    with pytest.raises(MvmnixError, match="not a challenge for a bearer token"):
        token_url(texts, "team/app")


def test_a_token_is_asked_for_this_repository_alone() -> None:
    asked = "scope=repository%3Ateam%2Fapp%3Apull"
    assert token_url(("https://auth.example/t", ""), "team/app") == f"https://auth.example/t?{asked}"
    assert token_url(("https://auth.example/t?a=b", "s"), "team/app") == f"https://auth.example/t?a=b&{asked}&service=s"


@pytest.mark.parametrize("texts", [(), ("a", "b"), ("",), ("a b",), ("a\n",), ("x" * 32769,)])
def test_what_is_no_token(texts: tuple[str, ...]) -> None:
    with pytest.raises(MvmnixError, match="not printable ASCII"):
        parse_token(texts)
    assert parse_token(("x" * 32768,)) == "x" * 32768
