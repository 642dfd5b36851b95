"""Expressions match a whole name in linear time; what RE2 can't match is refused where a policy is read."""

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.identity.trust import Pattern
from tests.support.refusals import refusal_codes

#: With these `re` tries more ways than there is time, on a name of some hundred `a`.
FOR_EVER = (
    *("(a+)+@b", "(a*)*b", "([a-z]+)*[0-9]", "(a|aa)+b", "(a|b)*c", "(a?)*b", "(.*)*b", "((a+))+b", "(a+b?)+c"),
    *("(a+){2,}b", "(a+){2,9}b", "(a{1,9})+b", "((a+)?)*b", "(a+?)+?b", "(?:a+)+b", "(?P<n>a+)*b", "(?i)(A+)+b"),
    *(".*a" * count + "b" for count in (3, 5, 9, 300)),
)
TAKEN = (
    *("a+", "a+(b|c)d*", "(abc)+", "(a{3})+", "(a+){1}", "(a+)?", "[(a+)+]+", r"\(a+\)+", "a{2}", r"(\d){2,5}"),
    *("[]a+]+", "[^]a+]+", "(?i)abc+", r".*@mvmnix\.test", ".*@left[.]example", "ci|dev", "^ci$", "(?i:a)"),
    *(r"https://github\.com/org/.*/\.github/workflows/.*@refs/tags/v.*", r"https://issuer\.(test|example)"),
    *(r"([a-z0-9-]+\.)*mvmnix\.test", r"v[0-9]+(\.[0-9]+)*", "x" * 1024, ".*" * 512, r"\bci\b", "(a+)+"),
)
REFUSED = (
    *("(b)(?(1)a|c)", r"(a)\1", "(?P<n>a)(?P=n)", "(?=a)a", "(?!a)b", "(?<=a)b", "(?<!a)b", "(?>a+)", "a++", "a*+"),
    *("a?+", "(?#c)a", "(?x)a b", "a{5000}", "(a{100}){100}", "(", "[", "\\", "*", "\ud800"),
)


@pytest.mark.parametrize("text", FOR_EVER)
@pytest.mark.parametrize("name", ["a" * 1000, "a" * 1000 + "\n", "a" * 500 + "!" + "a" * 500])
def test_no_expression_takes_for_ever(text: str, name: str) -> None:
    assert not Pattern(text, regexp=True).matches(name)


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text: str) -> None:
    assert Pattern(text, regexp=True).text == text


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"RE2|surrogates"):
        Pattern(text, regexp=True)


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        (Pattern(r".*@mvmnix\.test", regexp=True), True),
        (Pattern(r"^ci@mvmnix\.test$", regexp=True), True),
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
