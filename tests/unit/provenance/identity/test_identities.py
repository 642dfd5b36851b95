"""An identity of one kind is never met by a certificate's name of another kind."""

import pytest

from mvmnix.digest import Digest
from mvmnix.provenance.identity.trust import Identity, Pattern, SubjectKind, kind_of

ROOT, ISSUER = Digest.of(b"root"), "https://issuer.test"
URI, EMAIL, USER = SubjectKind.URI, SubjectKind.EMAIL, SubjectKind.USER_NAME


def identity(text: str, kind: SubjectKind | None = None, *, regexp: bool = False) -> Identity:
    return Identity(Pattern(text, regexp), Pattern(ISSUER), ROOT, kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("https://github.com/a/b/.github/workflows/c.yml@refs/tags/v1", URI),
        ("spiffe://trust.example/ci", URI),
        ("urn:example:ci@host.example", URI),
        ("ci@mvmnix.test", EMAIL),
        ("a!b@mvmnix.test", EMAIL),
        ("ci!mvmnix.test", USER),
        ("ci@host!mvmnix.test", USER),
        ("ci", USER),
    ],
)
def test_kinds_have_forms_of_their_own(text: str, kind: SubjectKind) -> None:
    assert kind_of(text) is kind
    assert identity(text).kind is kind
    assert identity(text, kind) == identity(text)
    assert identity(text).matches(text, ISSUER)
    for other in {*SubjectKind} - {kind}:
        with pytest.raises(ValueError, match="form of another kind"):
            identity(text, other)


@pytest.mark.parametrize(
    ("text", "kind", "met", "not_met"),
    [
        (r".*@mvmnix\.test", EMAIL, "ci@mvmnix.test", "https://evil.example/a@mvmnix.test"),
        (r"[a-z]+@mvmnix\.test", EMAIL, "ci@mvmnix.test", "ci!mvmnix.test"),
        (r"https://github\.com/a/.*", URI, "https://github.com/a/b@refs/tags/v1", "a@github.com"),
        (r"^https?:.*@.*", URI, "http://a@b", "a@b"),
        (r".*/a/.*@refs/tags/.*", URI, "https://github.com/a/b@refs/tags/v1", "x/a/b@refs/tags/c"),
        (r".*!mvmnix\.test", USER, "ci!mvmnix.test", "https://evil.example/!mvmnix.test"),
    ],
)
def test_an_expression_is_about_one_kind(text: str, kind: SubjectKind, met: str, not_met: str) -> None:
    found = identity(text, regexp=True)
    assert found.kind is kind
    assert found.matches(met, ISSUER)
    assert not found.matches(met, f"{ISSUER}/")
    assert not found.matches(not_met, ISSUER)
    assert identity(met).within(found)
    assert not identity(not_met).within(found)


def test_a_kind_that_is_stated() -> None:
    """Where an expression has no form, and where it has that of another kind."""
    with pytest.raises(ValueError, match="identity-kind"):
        identity(".*", regexp=True)
    for kind, name in ((URI, "https://host/a@b!c"), (EMAIL, "a/b@c"), (USER, "a@b!c")):
        found = identity(".*", kind, regexp=True)
        assert [each for each in ("https://host/a@b!c", "a/b@c", "a@b!c") if found.matches(each, ISSUER)] == [name]
    assert len({identity(".*", kind, regexp=True).fingerprint for kind in SubjectKind}) == 3
