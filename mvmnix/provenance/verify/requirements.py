"""Holds a signed statement against a file and what is required of it, all requirements at once; pure.

A statement counts for a file when it alone meets every requirement: two that meet half of them each are worth nothing
together. Who signed it is settled before, by provenance/verify/authentication.py. What is required of it doesn't
depend on the file, and is looked at once for any number of files.

Who signed a provenance could write anything into it; the extensions of the certificate (fulcio, docs/oid-info.md) are
from the token of the CI job, and have the word of the one that ran the job.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats.escaping import shell_command
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.identity import certificates
from mvmnix.provenance.slsa import foreign_builds, source_summaries
from mvmnix.provenance.slsa.foreign_builds import BuildSource
from mvmnix.provenance.slsa.in_toto import PACKAGE_LIMIT, ForeignStatement, ForeignSubject, PackageUrl

#: Subjects that a reason lists.
_SHOWN: Final = 4
_OTHER: Final = "name the file that it is about, or hand in the statement about this one"
_PACKAGE: Final = "get the file and the attestations of that package, or name the one that it was published as"
_SOURCE: Final = "find out which source is right, then name that one or get the artifact that was built from it"
_WORK_TREE: Final = "mvm build names a git work tree by its directory and commit, and knows of no address and no tag"
_COPY: Final = "mvm build names a copy by its directory, and knows of no address, commit or tag"
#: Of Fulcio's extensions.
_ARC: Final = "1.3.6.1.4.1.57264.1"
#: By their last number: UTF8String in DER, and the older ones in raw text.
_NAMES: Final = {"9": "builder", "12": "repository", "13": "commit", "14": "ref", "21": "run"}
_OLDER: Final = {"3": "commit", "6": "ref"}


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a statement has to say besides being about the file; None where nothing is required.

    `predicate_type` is a type URI, `source_digest` a git commit, `source_tag` a tag's name without `refs/tags/`.
    `source_level` is for a revision of a source in place of a file: the least level that a summary says it has.
    `package` is named by the very subject that has the file's digest; without a version, any version of it counts.
    """

    predicate_type: str | None = None
    source_uri: str | None = None
    source_tag: str | None = None
    source_digest: str | None = None
    builder_id: str | None = None
    source_level: int | None = None
    package: PackageUrl | None = None

    @property
    def about_source(self) -> bool:
        """Whether the source matters."""
        return not (self.source_uri is self.source_tag is self.source_digest is None)

    @property
    def about_content(self) -> bool:
        """Whether anything is required that only a statement can say, and a bare signature can't."""
        others = (self.predicate_type, self.builder_id, self.source_level, self.package)
        return self.about_source or any(each is not None for each in others)


@dataclass(frozen=True, slots=True)
class StatementPosition:
    """Which statement of how many it is, of the file that is called `artifact`, and who signed it, for people.

    `certificate` is the signer's, in DER; b"" for a key.
    """

    artifact: str
    number: int
    total: int
    signer: str = ""
    certificate: bytes = b""

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
        return tuple(self.reason(it.code, f"{self.name}: {self._about(it)}{it.why}", it.hint) for it in error.reasons)

    def _about(self, reason: Reason) -> str:
        return "" if reason.what == self.name else f"{reason.what}: "


class CheckedStatement:
    """What is known of a statement for any file: which files it names, and why it counts for none, if so.

    The statement itself is not kept: a thousand of them take more memory than their bundles.
    """

    def __init__(self, claim: ForeignStatement, wanted: Requirements, place: StatementPosition) -> None:
        self._reasons = tuple(reason for check in CHECKS for reason in check(claim, wanted, place))
        subjects = [each for each in claim.subjects if each.digests]
        self._said = _list(map(str, subjects)) or "no file's SHA-256, SHA-384 or SHA-512"
        self._package = wanted.package
        self._by_sha256: dict[str | None, list[ForeignSubject]] = {}
        for each in subjects:
            kept = each if wanted.package is not None else replace(each, name="")  # names are most of a statement
            self._by_sha256.setdefault(each.digests.get("sha256"), []).append(kept)

    def unmet(self, artifact: Blob, place: StatementPosition) -> tuple[Reason, ...]:
        """Why the statement does not count for that file, which `place` has the name of; nothing when it does."""
        return (*self._about_file(artifact, place), *(replace(it, what=place.artifact) for it in self._reasons))

    def package_name(self, artifact: Blob) -> str | None:
        """Return the package URL, as signed, of the subject that is the file; None where no package is required."""
        return None if self._package is None else next(filter(self._is_package, self._names(artifact)), None)

    def is_about_others(self, artifact: Blob) -> bool:
        """Whether all that speaks against it is that each of its subjects has another SHA-256 than the file."""
        if artifact.digest is None or self._reasons or None in self._by_sha256:
            return False
        return artifact.digest.hex not in self._by_sha256

    def _about_file(self, artifact: Blob, place: StatementPosition) -> Iterator[Reason]:
        """It names the file, by a subject whose digests are all the file's, and the package, by the same subject."""
        others = list[str]()
        try:
            for name in self._names(artifact):
                if self._is_package(name):
                    return
                others.append(name[:PACKAGE_LIMIT] or "no name")
        except ValueError as error:
            yield place.reason(ReasonCode.SUBJECT_MISMATCH, f"{place.name}: {error}", _OTHER)
            return
        if others:
            yield place.mismatch(ReasonCode.SUBJECT_MISMATCH, str(self._package), _list(others), _PACKAGE)
        else:
            yield place.mismatch(ReasonCode.SUBJECT_MISMATCH, str(artifact), self._said, _OTHER)

    def _names(self, artifact: Blob) -> Iterator[str]:
        """The names of the subjects that are the file. Raises ValueError for a file that changed."""
        return (each.name for each in self._candidates(artifact) if artifact.is_named(each.digests))

    def _is_package(self, name: str) -> bool:
        """Return whether that subject is the required package; any subject is, where none is required."""
        if self._package is None:
            return True
        try:
            return self._package.includes(PackageUrl.parse(name))
        except ValueError:
            return False

    def _candidates(self, artifact: Blob) -> Iterator[ForeignSubject]:
        """The subjects that may be it: another SHA-256 than the file's names another file."""
        if artifact.digest is None:
            for several in self._by_sha256.values():
                yield from several
        else:
            yield from self._by_sha256.get(artifact.digest.hex, ())
            yield from self._by_sha256.get(None, ())


def _list(names: Iterable[str]) -> str:
    """List the first few distinct names, and count the rest."""
    distinct = sorted(set(names))
    more = f" and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more


def of_type(claim: ForeignStatement, wanted: Requirements, place: StatementPosition) -> Iterator[Reason]:
    """It makes the kind of claim that is asked for."""
    if wanted.predicate_type is not None and claim.predicate_type != wanted.predicate_type:
        said, hint = claim.predicate_type, "ask for that type, or hand in a statement of the type that is needed"
        yield place.mismatch(ReasonCode.PREDICATE_TYPE, wanted.predicate_type, said, hint)


def by_builder(claim: ForeignStatement, wanted: Requirements, place: StatementPosition) -> Iterator[Reason]:
    """It names the builder that is asked for."""
    if wanted.builder_id is None:
        return
    try:
        said = foreign_builds.builder_id(claim)
    except RefusedError as error:
        yield from place.refused(error)
        return
    if said != wanted.builder_id:
        hint = "get the artifact that this builder built, or name the other one if you mean to trust it"
        yield place.mismatch(ReasonCode.BUILDER_MISMATCH, wanted.builder_id, said, hint)


def from_source(claim: ForeignStatement, wanted: Requirements, place: StatementPosition) -> Iterator[Reason]:
    """It names the repository, tag and commit that are asked for."""
    if not wanted.about_source or wanted.source_level is not None:
        return
    try:
        said = foreign_builds.origin(claim)
    except RefusedError as error:
        yield from place.refused(error)
        return
    hint = _what_would_match(said)
    yield from _of_another_repository(wanted, place, said.repository, hint)
    if wanted.source_tag is not None and wanted.source_tag != said.tag:
        found = said.ref or "no git reference"
        yield place.mismatch(ReasonCode.SOURCE_MISMATCH, f"refs/tags/{wanted.source_tag}", found, hint)
    if wanted.source_digest is not None and wanted.source_digest != said.commit:
        found = "no commit" if said.commit is None else f"commit {said.commit}"
        yield place.mismatch(ReasonCode.SOURCE_MISMATCH, f"commit {wanted.source_digest}", found, hint)


def at_source_level(claim: ForeignStatement, wanted: Requirements, place: StatementPosition) -> Iterator[Reason]:
    """It is a summary of a revision of the repository that is asked for, at this level or above."""
    if wanted.source_level is None:
        return
    try:
        said = source_summaries.source_summary(claim)
    except RefusedError as error:
        yield from place.refused(error)
        return
    if said.level < wanted.source_level:
        hint = "take a revision that was verified at that level, or ask for a lower one"
        expected = f"source level {wanted.source_level}"
        yield place.mismatch(ReasonCode.LEVEL_INSUFFICIENT, expected, f"level {said.level}", hint)
    found = foreign_builds.repository_of(said.repository)
    yield from _of_another_repository(
        wanted, place, found, f"{_SOURCE}; this one would match {shell_command('--source-uri', found)}"
    )


def _of_another_repository(wanted: Requirements, place: StatementPosition, found: str, hint: str) -> Iterator[Reason]:
    """Where a repository is asked for, and the statement is about another one."""
    if wanted.source_uri is None:
        return
    expected = foreign_builds.repository_of(wanted.source_uri)
    if expected != found:
        yield place.mismatch(ReasonCode.SOURCE_MISMATCH, expected, found, hint)


def as_certified(claim: ForeignStatement, wanted: Requirements, place: StatementPosition) -> Iterator[Reason]:
    """Where its source or builder matters, it names those that the certificate of its signer names."""
    about_build = wanted.about_source and wanted.source_level is None
    if about_build or wanted.builder_id is not None:
        yield from certified_reasons(claim, place)


def certified_reasons(claim: ForeignStatement, place: StatementPosition) -> Iterator[Reason]:
    """Where a provenance and the certificate of its signer name different things; both have to name them.

    A source that can't be read is not compared: a check that needs it refuses that.
    """
    if not place.certificate or not foreign_builds.is_provenance(claim):
        return
    hint = "get the artifact's own provenance: this one was not written by the build that its signer was certified for"
    try:
        certified, claimed = certified_build(place.certificate), _build_of(claim)
    except RefusedError as error:
        yield from place.refused(error)
    except ValueError as error:
        why = f"{place.name}: its certificate's extensions can't be read: {error}"
        yield place.reason(ReasonCode.IDENTITY_MALFORMED, why, hint)
    else:
        for what, said in claimed.items():
            if said is not None and certified.get(what, said) != said:
                code = ReasonCode.BUILDER_MISMATCH if what in {"run", "builder"} else ReasonCode.SOURCE_MISMATCH
                yield place.mismatch(code, f"the certified {what} {certified[what]}", said, hint)


def certified_build(certificate: bytes) -> Mapping[str, str]:
    """What a certificate says of the build that it was made for: builder, repository, commit, ref, run.

    What it doesn't say is not there. Raises ValueError for extensions in another form.
    """
    from mvmnix.provenance.identity.certificate_names import utf8  # noqa: PLC0415 - loads X.509, which keys don't need

    values = {
        each.oid.dotted_string.removeprefix(f"{_ARC}."): each.value.public_bytes()
        for each in certificates.from_der(certificate).extensions
        if each.oid.dotted_string.startswith(f"{_ARC}.")
    }
    newer = {name: utf8(values[number]) for number, name in _NAMES.items() if number in values}
    return {name: values[number].decode() for number, name in _OLDER.items() if number in values} | newer


def _build_of(claim: ForeignStatement) -> Mapping[str, str | None]:
    """The same by the statement's word, as far as it can be compared. Raises RefusedError."""
    try:
        source = foreign_builds.origin(claim)
    except RefusedError:
        source = None
    run = foreign_builds.invocation(claim)
    return {
        "repository": None if source is None else source.repository,
        "commit": None if source is None else source.commit,
        "ref": None if source is None else source.ref,
        "run": run if run is not None and "://" in run else None,
        "builder": foreign_builds.builder_id(claim) if foreign_builds.builder_signs(claim) else None,
    }


def _what_would_match(said: BuildSource) -> str:
    """The options that this statement meets, as a user would type them, and why mvm's own builds say no more."""
    told = {"--source-uri": said.repository, "--source-tag": said.tag, "--source-digest": said.commit}
    options = shell_command(
        *(word for pair in told.items() if pair[1] is not None for word in pair if word is not None)
    )
    own = {"file": f"; {_WORK_TREE}", "path": f"; {_COPY}"}.get(said.repository.partition(":")[0], "")
    return f"{_SOURCE}; this one would match {options}{own}"


type Check = Callable[[ForeignStatement, Requirements, StatementPosition], Iterator[Reason]]

CHECKS: Final[tuple[Check, ...]] = (of_type, by_builder, from_source, at_source_level, as_certified)
