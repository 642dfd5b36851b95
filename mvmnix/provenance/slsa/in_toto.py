"""Reads in-toto statements that any tool made, and says what files and what kind of claim they are about; pure.

in-toto's attestation framework, spec/v1/statement.md; version 0.1 has the same fields. Its parsing rules let
unknown fields be ignored, and so they are here, for mvm looks at no other. A claim of mvm's own is read by
provenance/bundle/statement.py, which ignores nothing.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self, cast, override
from urllib.parse import quote, unquote

from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.provenance.bundle.statement import STATEMENT_LIMIT, STATEMENT_TYPE

#: The older version, which `cosign` still writes.
STATEMENT_TYPE_0_1: Final = "https://in-toto.io/Statement/v0.1"

#: What people call predicate types; the names are those of `cosign --type`.
TYPES: Final[Mapping[str, str]] = {
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "spdxjson": "https://spdx.dev/Document",
    "spdx": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "link": "https://in-toto.io/Link/v1",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
    "custom": "https://cosign.sigstore.dev/attestation/v1",
}
_HINT: Final = "have it made and signed again by a tool that writes in-toto Statement v1 or v0.1"


#: How a digest is called in a DigestSet (in-toto, spec/v1/digest_set.md), and how many hexadecimal digits it has.
#: Others count for nothing: SHA-1 and MD5 have collisions, and the rest is not a hash of a file.
ALGORITHMS: Final[Mapping[str, int]] = {"sha256": 64, "sha384": 96, "sha512": 128}
#: The same of a revision of a source, which is no file: its digest is compared where one is asked for by it.
COMMIT: Final = "gitCommit"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

#: Characters of a package URL: npm's names have at most 214, and versions 256.
PACKAGE_LIMIT: Final = 1024
#: Without qualifiers and subpath, in the characters of a path (RFC 3986, 3.3). An encoded `/` is refused: decoded, it
#: couldn't be told from one that ends a segment.
_PACKAGE: Final = re.compile(
    r"pkg:[A-Za-z][A-Za-z0-9.-]*(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%(?!2[Ff])[0-9A-Fa-f]{2})+)+"
)


@dataclass(frozen=True, slots=True)
class PackageUrl:
    """A package by its type, namespace ("" for none), name and version (None for any), all decoded (purl-spec)."""

    type: str
    namespace: str
    name: str
    version: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a package URL by the rules of its type, so that two spellings of one package are equal.

        Raises ValueError, also for qualifiers and subpaths, which mvm does not compare.

        >>> str(PackageUrl.parse("pkg:npm/@scope/name@1.0.0"))
        'pkg:npm/%40scope/name@1.0.0'
        """
        from packageurl import PackageURL  # noqa: PLC0415 - who asks for no package doesn't pay for it

        shown = text[:80]
        if len(text) > PACKAGE_LIMIT or not _PACKAGE.fullmatch(text) or text.endswith("@"):
            raise ValueError(f"not a package URL, pkg:TYPE/NAMESPACE/NAME@VERSION without qualifiers: {shown!r}")
        try:
            decoded = unquote(text, errors="strict")
            found, spelled = PackageURL.from_string(text), PackageURL.from_string(text, normalize_purl=False)
        except ValueError as error:
            raise ValueError(f"not a package URL: {shown!r}: {error}") from error
        if not decoded.isprintable() or " " in decoded or "/" in (found.version or ""):
            raise ValueError(f"a package URL with a blank, a control character, or a / in its version: {shown!r}")
        # types/npm-definition.json has case-sensitive names, of which the library makes lower-case ones
        name = unquote(spelled.name) if found.type == "npm" else found.name
        return cls(found.type, found.namespace or "", name, found.version)

    @override
    def __str__(self) -> str:
        path = "/".join(quote(each, safe=":") for each in (*filter(None, self.namespace.split("/")), self.name))
        return f"pkg:{self.type}/{path}" + ("" if self.version is None else f"@{quote(self.version, safe=':')}")

    def includes(self, other: Self) -> bool:
        """Return whether the other is this package, at this version if it has one."""
        return self == (replace(other, version=None) if self.version is None else other)


@dataclass(frozen=True, slots=True)
class ForeignSubject:
    """What a claim is about: its name, and its digests in lower-case hexadecimal, by those of ALGORITHMS and COMMIT."""

    name: str
    digests: Mapping[str, str]

    @override
    def __str__(self) -> str:
        return " ".join(f"{algorithm}:{digest}" for algorithm, digest in sorted(self.digests.items()))


@dataclass(frozen=True, slots=True)
class ForeignStatement:
    """A claim about these subjects, some of which may be no files; `predicate` is for the reader of that type."""

    subjects: tuple[ForeignSubject, ...]
    predicate_type: str
    predicate: Mapping[str, object]


def predicate_type(text: str) -> str:
    """The type URI of one of the names in TYPES; a URI is itself. Raises ValueError for anything else.

    >>> predicate_type("slsaprovenance1"), predicate_type("https://example.test/claim/v1")
    ('https://slsa.dev/provenance/v1', 'https://example.test/claim/v1')
    """
    if text in TYPES:
        return TYPES[text]
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,1000}", text):
        raise ValueError(f"neither a type URI nor one of {', '.join(TYPES)}: {text[:80]!r}")
    return text


def parse(payload: bytes) -> ForeignStatement:
    """Read a statement. Raises RefusedError STATEMENT_MALFORMED, naming all problems."""
    try:
        value = strict.parse_json(payload, limit=STATEMENT_LIMIT, fraction=_fraction)
        return strict.read(value, "statement", _statement)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.STATEMENT_MALFORMED, "the signed statement", _HINT) from error


def _fraction(text: str) -> object:
    value = float(text)
    if len(text) > 64 or not math.isfinite(value):
        raise strict.MalformedError(f"the number {text[:24]} is too large")
    return value


def _statement(record: strict.Record) -> ForeignStatement:
    record.text("_type", rf"{re.escape(STATEMENT_TYPE)}|{re.escape(STATEMENT_TYPE_0_1)}")
    subjects = record.each("subject", _subject)
    kind = record.text("predicateType", r"[!-~]{1,1024}")
    # it may be left out, and PyPI's publish attestations have `null` there
    predicate = record.value("predicate") if record.has("predicate") else {}
    predicate = {} if predicate is None else predicate
    record.leave_rest()
    if not isinstance(predicate, dict):
        raise ValueError("its predicate is not an object")  # noqa: TRY004 - the text is wrong, not a caller
    return ForeignStatement(subjects, kind, cast("dict[str, object]", predicate))


def _subject(record: strict.Record) -> ForeignSubject:
    name = record.text("name", r"[^\x00]{0,4096}") if record.has("name") else ""
    found = ForeignSubject(name, record.child("digest", _digests))
    record.leave_rest()
    return found


def _digests(record: strict.Record) -> Mapping[str, str]:
    found = {each: record.text(each, f"[0-9a-f]{{{size}}}") for each, size in ALGORITHMS.items() if record.has(each)}
    commit = record.value(COMMIT) if record.has(COMMIT) else None
    if isinstance(commit, str) and _COMMIT.fullmatch(commit):
        found[COMMIT] = commit
    record.leave_rest()
    return found
