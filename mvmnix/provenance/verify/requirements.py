"""Holds a signed statement against a file and what is required of it, all requirements at once; pure.

A statement counts for a file when it alone meets every requirement: two that meet half of them each are worth nothing
together. Who signed it is settled before, by provenance/verify/authentication.py. What is required of it doesn't
depend on the file, and is looked at once for any number of files.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.identity import certified_build
from mvmnix.provenance.slsa import foreign_builds, source_summaries
from mvmnix.provenance.slsa.foreign_builds import BuildSource
from mvmnix.provenance.slsa.in_toto import ForeignStatement

#: Subjects that a reason lists.
_SHOWN: Final = 4
_OTHER: Final = "name the file that it is about, or hand in the statement about this one"
_SOURCE: Final = "find out which source is right, then name that one or get the artifact that was built from it"
_WORK_TREE: Final = "mvm build names a git work tree by its directory and commit, and knows of no address and no tag"
_COPY: Final = "mvm build names a copy by its directory, and knows of no address, commit or tag"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a statement has to say besides being about the file; None where nothing is required.

    `predicate_type` is a type URI, `source_digest` a git commit, `source_tag` a tag's name without `refs/tags/`.
    `source_level` is for a revision of a source in place of a file: the least level that a summary says it has.
    """

    predicate_type: str | None = None
    source_uri: str | None = None
    source_tag: str | None = None
    source_digest: str | None = None
    builder_id: str | None = None
    source_level: int | None = None

    @property
    def about_source(self) -> bool:
        """Whether the source matters."""
        return not (self.source_uri is self.source_tag is self.source_digest is None)

    @property
    def about_content(self) -> bool:
        """Whether anything is required that only a statement can say, and a bare signature can't."""
        others = (self.predicate_type, self.builder_id, self.source_level)
        return self.about_source or any(each is not None for each in others)


@dataclass(frozen=True, slots=True)
class StatementPosition:
    """Which statement of how many it is, of the file that is called `artifact`, and who signed it, for people."""

    artifact: str
    number: int
    total: int
    signer: str = ""

    @property
    def name(self) -> str:
        """How reasons call it."""
        return f"statement {self.number} of {self.total}"

    def reason(self, code: ReasonCode, why: str, hint: str) -> Reason:
        """A reason about this statement: `expected …, statement 2 of 3 says … (signer …)`."""
        return Reason(code, self.artifact, f"{why}{f' (signer {self.signer})' if self.signer else ''}", hint)

    def mismatch(self, code: ReasonCode, expected: str, said: str, hint: str) -> Reason:
        """That it says something else than what is expected."""
        return self.reason(code, f"expected {expected}, {self.name} says {said}", hint)

    def refused(self, error: RefusedError) -> tuple[Reason, ...]:
        """The same reasons, as reasons about this statement."""
        return tuple(self.reason(it.code, f"{self.name}: {it.what}: {it.why}", it.hint) for it in error.reasons)


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """A statement that could be read, beside what is required; `certificate` is its signer's, in DER, b"" for a key."""

    claim: ForeignStatement
    wanted: Requirements
    place: StatementPosition
    certificate: bytes


class CheckedStatement:
    """What is known of a statement for any file: which files it names, and why it counts for none, if so.

    The statement itself is not kept: a thousand of them take more memory than their bundles.
    """

    def __init__(self, it: ParsedStatement) -> None:
        self._reasons = tuple(reason for check in CHECKS for reason in check(it))
        subjects = [each for each in it.claim.subjects if each.digests]
        named = sorted(set(map(str, subjects)))
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        self._said = ", ".join(named[:_SHOWN]) + more or "no file's SHA-256, SHA-384 or SHA-512"
        self._by_sha256: dict[str | None, list[Mapping[str, str]]] = {}
        for each in subjects:
            self._by_sha256.setdefault(each.digests.get("sha256"), []).append(each.digests)

    def unmet(self, artifact: Blob, place: StatementPosition) -> tuple[Reason, ...]:
        """Why the statement does not count for that file, which `place` has the name of; nothing when it does."""
        return (*self._about_file(artifact, place), *(replace(it, what=place.artifact) for it in self._reasons))

    def is_about_others(self, artifact: Blob) -> bool:
        """Whether all that speaks against it is that each of its subjects has another SHA-256 than the file."""
        if artifact.digest is None or self._reasons or None in self._by_sha256:
            return False
        return artifact.digest.hex not in self._by_sha256

    def _about_file(self, artifact: Blob, place: StatementPosition) -> Iterator[Reason]:
        """It names the file: a subject whose digests are all the file's."""
        try:
            if any(map(artifact.is_named, self._candidates(artifact))):
                return
        except ValueError as error:
            yield place.reason(ReasonCode.SUBJECT_MISMATCH, f"{place.name}: {error}", _OTHER)
            return
        yield place.mismatch(ReasonCode.SUBJECT_MISMATCH, str(artifact), self._said, _OTHER)

    def _candidates(self, artifact: Blob) -> Iterator[Mapping[str, str]]:
        """The sets of digests that may name it: another SHA-256 than the file's names another file."""
        if artifact.digest is None:
            for several in self._by_sha256.values():
                yield from several
        else:
            yield from self._by_sha256.get(artifact.digest.hex, ())
            yield from self._by_sha256.get(None, ())


def of_type(it: ParsedStatement) -> Iterator[Reason]:
    """It makes the kind of claim that is asked for."""
    if it.wanted.predicate_type is not None and it.claim.predicate_type != it.wanted.predicate_type:
        said, hint = it.claim.predicate_type, "ask for that type, or hand in a statement of the type that is needed"
        yield it.place.mismatch(ReasonCode.PREDICATE_TYPE, it.wanted.predicate_type, said, hint)


def by_builder(it: ParsedStatement) -> Iterator[Reason]:
    """It names the builder that is asked for."""
    if it.wanted.builder_id is None:
        return
    try:
        said = foreign_builds.builder_id(it.claim)
    except RefusedError as error:
        yield from it.place.refused(error)
        return
    if said != it.wanted.builder_id:
        hint = "get the artifact that this builder built, or name the other one if you mean to trust it"
        yield it.place.mismatch(ReasonCode.BUILDER_MISMATCH, it.wanted.builder_id, said, hint)


def from_source(it: ParsedStatement) -> Iterator[Reason]:
    """It names the repository, tag and commit that are asked for."""
    if not it.wanted.about_source or it.wanted.source_level is not None:
        return
    try:
        said = foreign_builds.origin(it.claim)
    except RefusedError as error:
        yield from it.place.refused(error)
        return
    wanted, hint = it.wanted, _what_would_match(said)
    yield from _of_another_repository(it, said.repository, hint)
    if wanted.source_tag is not None and wanted.source_tag != said.tag:
        found = said.ref or "no git reference"
        yield it.place.mismatch(ReasonCode.SOURCE_MISMATCH, f"refs/tags/{wanted.source_tag}", found, hint)
    if wanted.source_digest is not None and wanted.source_digest != said.commit:
        found = "no commit" if said.commit is None else f"commit {said.commit}"
        yield it.place.mismatch(ReasonCode.SOURCE_MISMATCH, f"commit {wanted.source_digest}", found, hint)


def at_source_level(it: ParsedStatement) -> Iterator[Reason]:
    """It is a summary of a revision of the repository that is asked for, at this level or above."""
    if it.wanted.source_level is None:
        return
    try:
        said = source_summaries.source_summary(it.claim)
    except RefusedError as error:
        yield from it.place.refused(error)
        return
    if said.level < it.wanted.source_level:
        hint = "take a revision that was verified at that level, or ask for a lower one"
        expected = f"source level {it.wanted.source_level}"
        yield it.place.mismatch(ReasonCode.LEVEL_INSUFFICIENT, expected, f"level {said.level}", hint)
    found = foreign_builds.repository_of(said.repository)
    yield from _of_another_repository(it, found, f"{_SOURCE}; this one would match --source-uri {shlex.quote(found)}")


def _of_another_repository(it: ParsedStatement, found: str, hint: str) -> Iterator[Reason]:
    """Where a repository is asked for, and the statement is about another one."""
    if it.wanted.source_uri is None:
        return
    expected = foreign_builds.repository_of(it.wanted.source_uri)
    if expected != found:
        yield it.place.mismatch(ReasonCode.SOURCE_MISMATCH, expected, found, hint)


def as_certified(it: ParsedStatement) -> Iterator[Reason]:
    """Where its source or builder matters, it names those that the certificate of its signer names."""
    about_build = it.wanted.about_source and it.wanted.source_level is None
    if about_build or it.wanted.builder_id is not None:
        yield from certified_reasons(it.claim, it.certificate, it.place)


def certified_reasons(claim: ForeignStatement, certificate: bytes, place: StatementPosition) -> Iterator[Reason]:
    """Where a provenance and the certificate of its signer disagree."""
    hint = "get the artifact's own provenance: this one was not written by the build that its signer was certified for"
    try:
        for each in certified_build.disagreements(claim, certificate):
            yield place.mismatch(each.code, f"the certified {each.what} {each.certified}", each.said, hint)
    except RefusedError as error:
        yield from place.refused(error)
    except ValueError as error:
        why = f"{place.name}: its certificate's extensions can't be read: {error}"
        yield place.reason(ReasonCode.IDENTITY_MALFORMED, why, hint)


def _what_would_match(said: BuildSource) -> str:
    """The options that this statement meets, as a user would type them, and why mvm's own builds say no more."""
    told = {"--source-uri": said.repository, "--source-tag": said.tag, "--source-digest": said.commit}
    options = " ".join(f"{name} {shlex.quote(value)}" for name, value in told.items() if value is not None)
    own = {"file": f"; {_WORK_TREE}", "path": f"; {_COPY}"}.get(said.repository.partition(":")[0], "")
    return f"{_SOURCE}; this one would match {options}{own}"


type Check = Callable[[ParsedStatement], Iterator[Reason]]

CHECKS: Final[tuple[Check, ...]] = (of_type, by_builder, from_source, at_source_level, as_certified)
