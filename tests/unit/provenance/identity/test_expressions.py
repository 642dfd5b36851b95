"""No expression that is taken can be kept busy for ever by a name; what people write is taken."""

import re
import string
import warnings

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mvmnix.errors import ReasonCode
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.identity.trust import Pattern, may_backtrack
from tests.support.refusals import refusal_codes

FOR_EVER = (
    *("(a+)+@b", "(a*)*", "([a-z]+)*x", "(a|aa)+", "(a|b)*", "(a?)*", "(.*)*", "((a+))+", "(a+b?)+", "(a{1,9})+"),
    *("(a+){2,}", "(a+){2,9}", "(a+){,}", "(a+){,9}", "((a+)?)*", "(x(a+)y)*y", "([)]+)+", r"(\)+)+", "(a+?)+?"),
    *("(a++)+", "(?:a+)+", "(?P<n>a+)*", "(?i:a+)*", "(?:(a)+)+", "(?#c)(a+)+", "(?=a+)*", "(?>a+)+", "[a(]*(a*)*"),
    *("(b)(?(1)a+)*", "(?x)(a+) +", "(?ix:(a+) +)", r"(?#\))(a+)+"),
)
TAKEN = (
    *("a+", "a+(b|c)d*", "(abc)+", "(a{3})+", "(a+){1}", "(a+)?", "[(a+)+]+", r"\(a+\)+", "a{2}", r"(\d){2,5}"),
    *("[]a+]+", "[^]a+]+", "(?i)abc+", "(b)(?(1)a|c)", r".*@mvmnix\.test", ".*@left[.]example", "ci|dev", "a{", "a{x}"),
    *(r"(?#\))a+", "(a{3,3})+"),
    *(r"https://github\.com/org/.*/\.github/workflows/.*@refs/tags/v.*", r"https://issuer\.(test|example)"),
)


@pytest.mark.parametrize("text", FOR_EVER)
def test_for_ever(text: str) -> None:
    re.compile(text)
    assert may_backtrack(text)
    with pytest.raises(ValueError, match="for ever"):
        Pattern(text, regexp=True)
    assert Pattern(text).matches(text), "as a text it is one"


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text: str) -> None:
    re.compile(text)
    assert Pattern(text, regexp=True).text == text


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (Pattern(r".*@mvmnix\.test", regexp=True), True),
        (Pattern("ci|ci@mvmnix.test", regexp=True), True),
        (Pattern("ci|dev", regexp=True), False),
        (Pattern(r"ci@mvmnix\.tes", regexp=True), False),
        (Pattern(r"i@mvmnix\.test", regexp=True), False),
        (Pattern(r".*@mvmnix\.test"), False),
        (Pattern("ci@mvmnix.test/"), False),
        (Pattern("CI@MVMNIX.TEST"), False),
        (Pattern("ci@mvmnix.test"), True),
    ],
)
def test_a_name_is_matched_in_full(pattern: Pattern, *, matches: bool) -> None:
    assert pattern.matches("ci@mvmnix.test") is matches
    assert not pattern.matches("ci@mvmnix.test\n")


def test_in_a_policy() -> None:
    text = 'version = 1\nserial = 1\n[[identities]]\nidentity-regexp = "(a+)+"\nissuer = "x"\n'
    assert refusal_codes(RevocationFile.parse, text.encode()) == (ReasonCode.POLICY_MALFORMED,)


PIECES = (*"ab()[]*+?{},|\\:<=!P1^-#", "(?:", "(?P<a>", "(?(1)", "{2,}", ")+", "(?i:", "\\)", "(?#")


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(string.printable, max_size=12))
def test_whatever_is_an_expression_can_be_read(text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError):
        assume(False)
    found = may_backtrack(text)
    assert may_backtrack(f"(?:{text})@[)(+]") is found, "it is the same within a group"
