"""Reads a revocations.toml: which keys, identities and files are no longer trusted, since when and why; pure.

docs/reference/trust-policy.md has the format. Revocations are no part of the policy's digest.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.provenance import trust_toml
from mvmnix.provenance.identity.trust import Pattern, Revocations

FILE_NAME: Final = "revocations.toml"
#: How many of each kind one file may revoke.
MOST: Final = 4096

_LINE: Final = r"[^\x00-\x1f\x7f]{1,255}"


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry, for people: `what` is no longer trusted, `reason` and `date` where the file has them."""

    what: str
    reason: str
    date: datetime | None


@dataclass(frozen=True, slots=True)
class RevocationFile:
    """What one revocations.toml says; its serial grows with each change."""

    serial: int
    revocations: Revocations
    entries: tuple[Revoked, ...]

    @classmethod
    def parse(cls, data: bytes, path: str = FILE_NAME) -> Self:
        """Read the bytes of the file at a path. Raises RefusedError POLICY_MALFORMED with all problems at once."""
        serial, keys, identities, digests = trust_toml.read(data, path, _file, schema="revocations")
        revoked = Revocations(
            frozenset(key for key, _ in keys),
            tuple(identity for identity, _ in identities),
            frozenset(digest for digest, _ in digests),
            {digest: entry.reason for digest, entry in digests if entry.reason},
        )
        entries = (entry for _, entry in (*keys, *identities, *digests))
        return cls(serial, revoked, tuple(entries))


type _Digests = tuple[tuple[Digest, Revoked], ...]
type _Identities = tuple[tuple[tuple[Pattern, Pattern], Revoked], ...]


def _file(record: strict.Record) -> tuple[int, _Digests, _Identities, _Digests]:
    record.integer("version", 1, 1)
    return (
        record.integer("serial", 1, strict.MAX_INTEGER),
        record.each("keys", lambda it: _digest(it, "key"), MOST) if record.has("keys") else (),
        record.each("identities", _identity, MOST) if record.has("identities") else (),
        record.each("digests", lambda it: _digest(it, "digest"), MOST) if record.has("digests") else (),
    )


def _digest(record: strict.Record, kind: str) -> tuple[Digest, Revoked]:
    digest = record.digest()
    return digest, _entry(record, f"{kind} {digest}")


def _identity(record: strict.Record) -> tuple[tuple[Pattern, Pattern], Revoked]:
    subject, issuer = read_pattern(record, "identity"), read_pattern(record, "issuer")
    return (subject, issuer), _entry(record, f"identity {subject.text} of {issuer.text}")


def _entry(record: strict.Record, what: str) -> Revoked:
    reason = record.text("reason", _LINE) if record.has("reason") else ""
    return Revoked(what, reason, trust_toml.moment(record, "date") if record.has("date") else None)


def read_pattern(record: strict.Record, name: str) -> Pattern:
    """`NAME = text` or `NAME-regexp = expression`, one of the two; that both stand there is noted."""
    regexp = f"{name}-regexp"
    if not record.has(regexp):
        return record.parsed(name, lambda text: Pattern(_plain(text)), Pattern("-"))
    if record.has(name):
        record.note(f"{name} and {regexp} stand there both")
        return Pattern("-")
    return record.parsed(regexp, lambda text: Pattern(_plain(text), regexp=True), Pattern("-"))


def _plain(text: str) -> str:
    if len(text) > 1024 or not text.isprintable():
        raise ValueError(f"not a pattern of at most 1024 printable characters: {text[:80]!r}")
    return text
