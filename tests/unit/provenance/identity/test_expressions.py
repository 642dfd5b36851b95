"""Expressions match as those of `re` do, in steps bounded by expression and name; what people write is taken."""

import re
import string
import warnings

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mvmnix.errors import ReasonCode
from mvmnix.provenance.identity import expressions
from mvmnix.provenance.identity.expressions import MOST_STEPS, check, matches
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.identity.trust import Pattern
from tests.support.refusals import refusal_codes

#: With these `re` tries more ways than there is time, on a name of some hundred `a`.
FOR_EVER = (
    *("(a+)+@b", "(a*)*b", "([a-z]+)*[0-9]", "(a|aa)+b", "(a|b)*c", "(a?)*b", "(.*)*b", "((a+))+b", "(a+b?)+c"),
    *("(a+){2,}b", "(a+){2,9}b", "(a{1,9})+b", "((a+)?)*b", "(a+?)+?b", "(?:a+)+b", "(?P<n>a+)*b", "(?i)(A+)+b"),
    *(".*a" * count + "b" for count in (3, 5, 9, 100)),
)
TAKEN = (
    *("a+", "a+(b|c)d*", "(abc)+", "(a{3})+", "(a+){1}", "(a+)?", "[(a+)+]+", r"\(a+\)+", "a{2}", r"(\d){2,5}"),
    *("[]a+]+", "[^]a+]+", "(?i)abc+", r".*@mvmnix\.test", ".*@left[.]example", "ci|dev", "a{", "a{x}", "^ci$"),
    *(r"https://github\.com/org/.*/\.github/workflows/.*@refs/tags/v.*", r"https://issuer\.(test|example)", "a{,3}"),
    *(r"([a-z0-9-]+\.)*mvmnix\.test", r"v[0-9]+(\.[0-9]+)*", "x" * 1024, ".*" * 512, r"\bci\b", "(a+)+"),
)
UNDECIDED = (
    *("(b)(?(1)a|c)", r"(a)\1", "(?P<n>a)(?P=n)", "(?=a)a", "(?!a)b", "(?<=a)b", "(?<!a)b", "(?>a+)", "a++", "a*+"),
    *("a?+", "a{1,2}+", "(?#c)a", "(?i:a)", "(?x)a b", "(?-i:a)"),
)
TOO_LARGE = ("a{5000}", "(a{100}){100}", "a{1,4097}", "(" * 70 + ")" * 70, f"a{{{2**40}}}")


@pytest.mark.parametrize("text", FOR_EVER)
@pytest.mark.parametrize("name", ["a" * 1000, "a" * 1000 + "\n", "a" * 500 + "!" + "a" * 500])
def test_steps_are_bounded(monkeypatch: pytest.MonkeyPatch, text: str, name: str) -> None:
    taken, tried = expressions._takes, []

    def counted(step: expressions._Step, character: str) -> bool:
        tried.append(step)
        return taken(step, character)

    monkeypatch.setattr(expressions, "_takes", counted)
    pattern = Pattern(text, regexp=True)
    assert not pattern.matches(name)
    assert len(tried) <= 3 * len(text) * 9 * len(name)
    assert pattern.matches("") is (re.fullmatch(text, "") is not None)
    assert Pattern(text).matches(text), "as a text it is one"


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text: str) -> None:
    assert Pattern(text, regexp=True).text == text


@pytest.mark.parametrize("text", UNDECIDED)
def test_what_can_t_be_decided_so_is_refused(text: str) -> None:
    re.compile(text)
    with pytest.raises(ValueError, match="look-around"):
        Pattern(text, regexp=True)


@pytest.mark.parametrize("text", TOO_LARGE)
def test_too_large(text: str) -> None:
    with pytest.raises(ValueError, match=rf"more than ({MOST_STEPS} steps|64 groups)|not a regular expression"):
        Pattern(text, regexp=True)


@pytest.mark.parametrize(
    ("pattern", "fits"),
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
def test_a_name_is_matched_in_full(pattern: Pattern, *, fits: bool) -> None:
    assert pattern.matches("ci@mvmnix.test") is fits
    assert not pattern.matches("ci@mvmnix.test\n")


def test_in_a_policy() -> None:
    text = 'version = 1\nserial = 1\n[[identities]]\nidentity-regexp = "(a)\\\\1"\nissuer = "x"\n'
    assert refusal_codes(RevocationFile.parse, text.encode()) == (ReasonCode.POLICY_MALFORMED,)


PIECES = (*"ab()[]*+?{},|\\:<=!P1^-#$.", "(?:", "(?P<a>", "(?(1)", "{2,}", ")+", "(?i)", "\\)", "(?#", r"\b", r"\Z")


@given(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(string.printable, max_size=12),
    st.lists(st.text("ab1-{,\n é", max_size=9), min_size=4, max_size=4),
)
def test_matches_are_those_of_python(text: str, names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check(text)
        except ValueError:
            assume(False)
        assert [matches(text, name) for name in names] == [re.fullmatch(text, name) is not None for name in names]
