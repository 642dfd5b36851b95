"""Which node gets which credential, and that none is shown."""

import os
from pathlib import Path

import pytest

from mvmnix.builder.fetch.credentials import Credentials
from mvmnix.config import CredentialRule, TokenPlace
from mvmnix.errors import MvmnixError

URI = "git+https://h.test/team/r?rev=0"


def rule(node: str = "git+https://h.test/team/*", name: str = "TOKEN") -> CredentialRule:
    return CredentialRule(node, TokenPlace.FILE if name.startswith("/") else TokenPlace.ENVIRONMENT, name)


@pytest.mark.parametrize(
    ("uri", "value"),
    [
        (URI, "Bearer abc"),
        ("git+https://h.test/other/r?rev=0", ""),
        ("git+https://h.test.evil.test/team/r", ""),
        ("https://h.test/team/r", ""),
        ("GIT+https://h.test/team/r", ""),
    ],
)
def test_a_node_that_matches_gets_it(uri: str, value: str) -> None:
    assert Credentials((rule(),), {"TOKEN": "abc"}).authorization(uri) == value


def test_the_first_rule_that_matches_counts() -> None:
    both = Credentials((rule(name="ONE"), rule("*", "TWO")), {"ONE": "1", "TWO": "2"})
    assert (both.authorization(URI), both.authorization("x")) == ("Bearer 1", "Bearer 2")


def test_a_whole_header_is_taken_as_it_is() -> None:
    assert Credentials((rule(),), {"TOKEN": "Basic dTpw"}).authorization(URI) == "Basic dTpw"


def test_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("abc\n")
    file.chmod(0o600)
    credentials = Credentials((rule(name=str(file)),))
    assert credentials.authorization(URI) == "Bearer abc"
    file.chmod(0o640)
    with pytest.raises(MvmnixError, match="chmod 600"):
        credentials.authorization(URI)
    file.unlink()
    with pytest.raises(MvmnixError, match="No such file"):
        credentials.authorization(URI)
    os.mkfifo(file, 0o600)
    with pytest.raises(MvmnixError, match="not a token"):
        credentials.authorization(URI)


@pytest.mark.parametrize("value", ["", "a\nX-Other: b", "a b c", "ä", "a\x00"])
def test_what_is_no_token_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(MvmnixError) as caught:
        Credentials((rule(),), {"TOKEN": value}).authorization(URI)
    assert not value or value not in str(caught.value)


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(MvmnixError, match="the variable is not set"):
        Credentials((rule(),), {}).authorization(URI)


def test_its_representation_has_no_secret() -> None:
    assert "abc" not in repr(Credentials((rule(),), {"TOKEN": "abc"}))
