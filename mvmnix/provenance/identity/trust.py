"""Whom to trust, whatever they say: signers by key or by certified identity, trust roots, revocations; pure.

The name in a certificate was chosen by another party: it is matched by a text, or by a regular expression in a time
that grows with its length only (expressions.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.keys import PublicKey, Role
from mvmnix.provenance.bundle.verification_material import FINGERPRINT

_NOTHING: Final[Mapping[Digest, bytes]] = MappingProxyType({})
_NO_REASONS: Final[Mapping[Digest, str]] = MappingProxyType({})
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\??:")


@dataclass(frozen=True, slots=True, order=True)
class Pattern:
    """A text, or a regular expression that has to match in full.

    Raises ValueError for one that is none, or that can't be matched in linear time (expressions.py).
    """

    text: str
    regexp: bool = False

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("an empty pattern")
        if self.regexp:
            from mvmnix.provenance.identity import expressions  # noqa: PLC0415 - few policies have one

            expressions.check(self.text)

    def matches(self, value: str) -> bool:
        """Whether the whole value is meant.

        >>> Pattern("a.c", regexp=True).matches("abcd"), Pattern("a.c", regexp=True).matches("abc")
        (False, True)
        """
        if not self.regexp:
            return self.text == value
        from mvmnix.provenance.identity import expressions  # noqa: PLC0415

        return expressions.matches(self.text, value)

    def within(self, other: Self) -> bool:
        """Whether it surely matches nothing that the other does not: the same, or one text that the other matches."""
        return self == other or (not self.regexp and other.matches(self.text))


class SubjectKind(StrEnum):
    """Kinds of a certificate's SAN; the name of each has a form of its own (`kind_of`)."""

    URI = "uri"
    EMAIL = "email"
    USER_NAME = "user-name"


def kind_of(subject: str) -> SubjectKind:
    """Return the kind of SAN that a name of this form has; a certificate in which it has another one is refused.

    A URI begins with a scheme (RFC 3986, section 3.1). Fulcio's user names end in `!DOMAIN` (fulcio, oid-info.md).

    >>> [kind_of(it).value for it in ("https://host.example/@b", "a@host.example", "a@b!host.example")]
    ['uri', 'email', 'user-name']
    """
    if _SCHEME.match(subject):
        return SubjectKind.URI
    return SubjectKind.EMAIL if "@" in subject.rpartition("!")[2] else SubjectKind.USER_NAME


def _kind_of_expression(text: str) -> SubjectKind:
    """Return the one kind of name that an expression is meant for. Raises ValueError where its form doesn't tell."""
    if "/" in text or _SCHEME.match(text.removeprefix("^")):
        return SubjectKind.URI
    found = kind_of(text)
    if found is SubjectKind.USER_NAME and "!" not in text:
        raise ValueError(
            f"neither URI, email address nor user name: {text!r}: write its beginning, or an identity-kind"
        )
    return found


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """A party to which a certificate authority testifies: the certificate's SAN, and the OIDC issuer that vouched.

    `domain` is the SHA-256 of the trusted_root.json whose authorities may testify, and no others. `kind` is the only
    kind of SAN that counts; left out, that of the subject's form. Raises ValueError where that is none or another one.
    """

    subject: Pattern
    issuer: Pattern
    domain: Digest
    kind: SubjectKind | None = None

    def __post_init__(self) -> None:
        if not self.subject.regexp and self.kind not in {None, kind_of(self.subject.text)}:
            raise ValueError(f"{self.subject.text!r} has the form of another kind than {self.kind}")
        if self.kind is None:
            text = self.subject.text
            object.__setattr__(self, "kind", _kind_of_expression(text) if self.subject.regexp else kind_of(text))

    @property
    def fingerprint(self) -> Digest:
        """SHA-256 over the canonical JSON of what the policy says, so that an identity counts once."""
        subject, issuer = ([it.text, it.regexp] for it in (self.subject, self.issuer))
        return Digest.of(strict.canonical([subject, issuer, self.domain.hex, self.kind]))

    def matches(self, subject: str, issuer: str) -> bool:
        """Whether a certificate with these names has this identity."""
        return kind_of(subject) is self.kind and self.subject.matches(subject) and self.issuer.matches(issuer)

    def within(self, other: Self) -> bool:
        """Whether every certificate that has this identity has the other one too."""
        same = (self.domain, self.kind) == (other.domain, other.kind)
        return same and self.subject.within(other.subject) and self.issuer.within(other.issuer)


@dataclass(frozen=True, slots=True)
class Signer:
    """A key or identity with a name for people, and the claims that it may sign.

    `log` is the trust domain whose transparency log has to have a key's signature; None where none is required, and
    for identities, which always need their domain's.
    """

    name: str
    credential: PublicKey | Identity
    roles: frozenset[Role]
    log: Digest | None = None

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError(f"signer {self.name!r} has no role")
        if self.log is not None and isinstance(self.credential, Identity):
            raise ValueError(f"signer {self.name!r} is an identity, which needs its own domain's log anyway")

    @property
    def key(self) -> PublicKey | None:
        """The key, if it is known by one."""
        return self.credential if isinstance(self.credential, PublicKey) else None

    @property
    def fingerprint(self) -> Digest:
        """Whom signatures are counted by: SHA-256 of a key's SubjectPublicKeyInfo, or of what defines an identity."""
        return self.credential.fingerprint

    def within(self, other: Self) -> bool:
        """Whether this is the other signer, or part of whom it means, with no more roles and no less evidence."""
        match self.credential, other.credential:
            case (Identity() as ours, Identity() as theirs):
                same = ours.within(theirs)
            case _:
                same = self.credential == other.credential
        return same and self.roles <= other.roles and other.log in {None, self.log}


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is no longer trusted: keys by SPKI digest, identities by (subject, issuer), files by their digest.

    `digests` are those of bundles and of manifests (and so of images); `reasons` says why, where the file does.
    """

    keys: frozenset[Digest] = frozenset()
    identities: tuple[tuple[Pattern, Pattern], ...] = ()
    digests: frozenset[Digest] = frozenset()
    reasons: Mapping[Digest, str] = field(default=_NO_REASONS, compare=False)

    def __or__(self, other: Self) -> "Revocations":
        """What either revokes."""
        identities, reasons = (*self.identities, *other.identities), {**other.reasons, **self.reasons}
        return Revocations(self.keys | other.keys, identities, self.digests | other.digests, reasons)

    def words(self, digest: Digest) -> str:
        """That a digest is revoked, and why if the file says so: one line, in printable characters.

        >>> Revocations(reasons={Digest("0" * 64): "it leaked"}).words(Digest("0" * 64))
        "is revoked: 'it leaked'"
        """
        reason = self.reasons.get(digest)
        return f"is revoked: {reason!r}" if reason else "is revoked"

    def revokes(self, subject: str, issuer: str) -> bool:
        """Whether a certified identity is no longer trusted."""
        return any(who.matches(subject) and by.matches(issuer) for who, by in self.identities)


@dataclass(frozen=True, slots=True)
class Trust:
    """All that it takes to say who signed: signers, trusted_root.json files by SHA-256 of their bytes, revocations.

    `require_inclusion`: a log has to prove that it holds a signature, also of a file that is only verified.
    """

    signers: tuple[Signer, ...]
    roots: Mapping[Digest, bytes] = _NOTHING
    revocations: Revocations = field(default_factory=Revocations)
    require_inclusion: bool = False

    def by_hint(self, hint: str) -> Signer | None:
        """The signer whose key a bundle's hint names (base64 of the SPKI's SHA-256).

        A hint in another form names no key: then it can only be the one that is trusted alone.
        """
        if not re.fullmatch(FINGERPRINT, hint):
            match self.signers:
                case (Signer(credential=PublicKey()) as only,):
                    return only
                case _:
                    return None
        return next((each for each in self.signers if each.key is not None and each.key.hint == hint), None)
