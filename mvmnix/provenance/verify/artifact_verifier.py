"""Judges which of the bundles that were handed in count for a file, each alone; pure but for reading that file.

Bundles may be handed in for many files. What doesn't depend on the file is done once: who signed a statement, which
files it names, and whether it meets the requirements.

A registry's answer is unpacked first (registry_responses.py, cosign_layouts.py). For each bundle, in this order, and
what one of the first two steps refuses is not read further:

1. a trusted signer signed it (steps 2 to 4 of authentication.py);
2. what was signed is an in-toto statement, or the file itself, or a text that has to name the image;
3. the statement is about the file and meets every requirement (requirements.py), and is what its packaging calls it;
   a bare signature meets none;
4. what the trust policy has to say about such a build, where one is asked, is met too (release_checks.py).

Whatever was not expected is a refusal of that bundle. A file has passed when at least one bundle counts for it, or as
many by different signers, of different builds, as the policy asks for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import MOST_REASONS, Reason, ReasonCode, RefusedError, bounded
from mvmnix.formats import strict
from mvmnix.keys import Role
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.statement import PAYLOAD_TYPE
from mvmnix.provenance.identity.trust import Trust
from mvmnix.provenance.slsa import foreign_builds, in_toto
from mvmnix.provenance.slsa.in_toto import ForeignStatement
from mvmnix.provenance.verify import registry_responses
from mvmnix.provenance.verify.authentication import (
    Attested,
    Authentic,
    Claim,
    Quorum,
    authenticate_foreign,
    only_refusals,
    read_foreign,
)
from mvmnix.provenance.verify.registry_responses import Packed
from mvmnix.provenance.verify.requirements import CheckedStatement, Requirements, StatementPosition

#: What a statement about other files is refused with.
_OTHERS: Final = ReasonCode.SUBJECT_MISMATCH
_HAND_IN: Final = "hand in the file's bundle: `mvm verify --bundle BUNDLE …`"

#: More that has to hold of an authentic statement about the file; yields the reasons why it does not.
type Further = Callable[[ForeignStatement, Attested, StatementPosition], Iterator[Reason]]


def nothing_further(claim: ForeignStatement, attested: Attested, place: StatementPosition) -> Iterator[Reason]:  # noqa: ARG001
    """For callers whose requirements say everything."""
    yield from ()


@dataclass(frozen=True, slots=True)
class VerificationCriteria:
    """What bundles are held against: who may have signed, in which role, what they have to say, how many have to."""

    trust: Trust
    wanted: Requirements
    role: Role | None = None
    further: Further = nothing_further
    signers: int = 1


@dataclass(frozen=True, slots=True)
class CountedBundle:
    """A bundle that counts for the file: which of those handed in, by whom, and what it says; None for a signature.

    `package` is the package URL, as signed, that was compared with the required one; None where none is required.
    """

    number: int
    attested: Attested
    statement: ForeignStatement | None
    payload: bytes
    package: str | None = None


@dataclass(frozen=True, slots=True)
class AcceptedArtifact:
    """A file for which enough counts; `others` are the reasons why other bundles do not."""

    name: str
    blob: Blob
    counted: tuple[CountedBundle, ...]
    others: tuple[Reason, ...]

    @property
    def digest(self) -> Digest | None:
        """The file's SHA-256, unless it is known by another digest only."""
        return self.blob.digest


class HandedIn:
    """Bundles that any number of files are judged by."""

    def __init__(self, bundles: Sequence[bytes | Packed], criteria: VerificationCriteria) -> None:
        unpacked = registry_responses.unpack_all(bundles)
        # of a statement about many files, which is not kept for each bundle
        parse = lru_cache(maxsize=1)(in_toto.parse)
        self._criteria = criteria
        self._bundles = tuple(
            _HandedInBundle(packed, StatementPosition("", number, len(unpacked)), criteria, parse)
            for number, packed in enumerate(unpacked, 1)
        )

    def __bool__(self) -> bool:
        return bool(self._bundles)

    def judge(self, name: str, blob: Blob) -> AcceptedArtifact:
        """What counts for the file that people call `name`. Raises RefusedError with the reasons of all bundles."""
        criteria, counted, reasons = self._criteria, list[CountedBundle](), list[Reason]()
        counts_alone: Reason | None = None
        for each in self._bundles:
            if counts_alone is not None and each.is_known_to_be_about_others(blob):
                reasons.append(counts_alone)
                continue
            try:
                with only_refusals(name):
                    found = each.judged(name, blob)
            except RefusedError as error:
                found = error.reasons
            if isinstance(found, CountedBundle):
                counted.append(found)
            else:
                reasons.extend(found)
            if counts_alone is None and len(reasons) >= MOST_REASONS:
                # of further reasons with a code that is told, the number is told alone
                counts_alone = next((it for it in reasons[:MOST_REASONS] if it.code is _OTHERS), None)
        reasons += _revoked(name, blob, criteria)
        voices = _voices(counted)
        if not self:
            why = "no bundle was handed in that could say anything about it"
            reasons.append(Reason(ReasonCode.ATTESTATION_MISSING, name, why, _HAND_IN))
        elif counted and voices < criteria.signers:
            why = f"{voices} of {criteria.signers} builders that the policy asks for have built it"
            hint = "hand in the bundles of other builders as well"
            reasons.append(Reason(ReasonCode.REBUILDS_MISSING, name, why, hint))
        if voices < criteria.signers or blob.digest in criteria.trust.revocations.digests:
            raise RefusedError(*reasons)
        return AcceptedArtifact(name, blob, tuple(counted), bounded(reasons))


def _voices(counted: Sequence[CountedBundle]) -> int:
    """How many signers vouch, each once, and each for a build of its own: one build that two signed was built once."""
    quorum = Quorum()
    for each in counted:
        builds = set[str]()
        if each.statement is not None:
            builds.add(f"payload {Digest.of(each.payload)}")
            if (run := foreign_builds.invocation(each.statement)) is not None:
                builds.add(f"run {run}")
        quorum.count(each.attested, builds)
    return len(quorum)


def _revoked(name: str, blob: Blob, criteria: VerificationCriteria) -> Iterator[Reason]:
    if blob.digest in criteria.trust.revocations.digests:
        told = criteria.trust.revocations.words(blob.digest)
        why, hint = f"{blob.digest} {told}", "take a file that is not; revocations.toml says what is"
        yield Reason(ReasonCode.IMAGE_REVOKED, name, why, hint)


type _Refused = tuple[Reason, ...]


class _HandedInBundle:
    """One bundle. Reasons that hold for any file are about no file yet: `judged` says which."""

    def __init__(
        self,
        packed: Packed,
        place: StatementPosition,
        criteria: VerificationCriteria,
        parse: Callable[[bytes], ForeignStatement],
    ) -> None:
        self._packed, self._place, self._criteria, self._parse = packed, place, criteria, parse
        self._statement: CheckedStatement | _Refused | None = None

    def judged(self, name: str, blob: Blob) -> "CountedBundle | _Refused":
        """What it is worth for a file, or why nothing. Raises RefusedError."""
        attested = self._settled or self._over(_signed_file(self._packed, blob))  # 1
        if isinstance(attested, tuple):
            return _about(name, attested)
        place = replace(self._place, artifact=name, signer=signer_of(attested), certificate=attested.certificate)
        if not isinstance(attested.content, Claim):
            return _signature(attested, self._packed, blob, self._criteria, place)  # 2, 3
        statement = self._statement = self._statement or self._check(attested.content, place)  # 2
        if isinstance(statement, tuple):
            return _about(name, statement)
        if reasons := statement.unmet(blob, place):  # 3
            return reasons
        claim = self._parse(attested.content.payload)
        _as_packed(self._packed, claim, blob, place)  # 3
        if further := tuple(self._criteria.further(claim, attested, place)):  # 4
            return further
        return CountedBundle(place.number, attested, claim, attested.content.payload, statement.package_name(blob))

    def is_known_to_be_about_others(self, blob: Blob) -> bool:
        """Whether it was looked at for another file, and is refused for this one since it names other files alone."""
        return isinstance(self._statement, CheckedStatement) and self._statement.is_about_others(blob)

    @cached_property
    def _settled(self) -> "Attested | _Refused | None":
        """Who signed a statement, or why it is none of those who are trusted; None for a bare signature over a file."""
        if self._packed.problem:
            why = f"{self._place.name}: {self._packed.problem}"
            return (self._place.reason(ReasonCode.BUNDLE_MALFORMED, why, _HAND_IN),)
        try:
            read = read_foreign(self._packed.data, self._place.name, self._packed.stamped)
            if read.is_over_file:
                return None
            trust, role = self._criteria.trust, self._criteria.role
            return authenticate_foreign(read, trust=trust, role=role, what=self._place.name)
        except RefusedError as error:
            return self._place.refused(error)

    def _over(self, file: Blob) -> "Attested | _Refused":
        """Who made a bare signature, which is read again: nothing of it is kept."""
        trust, role = self._criteria.trust, self._criteria.role
        try:
            read = read_foreign(self._packed.data, self._place.name)
            return authenticate_foreign(read, trust=trust, role=role, what=self._place.name, blob=file)
        except RefusedError as error:
            return self._place.refused(error)

    def _check(self, content: Claim, place: StatementPosition) -> "CheckedStatement | _Refused":
        """What it says to any file."""
        if content.payload_type != PAYLOAD_TYPE:
            hint = "sign an in-toto statement"
            return (place.mismatch(ReasonCode.BUNDLE_MALFORMED, PAYLOAD_TYPE, content.payload_type, hint),)
        try:
            claim = self._parse(content.payload)
        except RefusedError as error:
            return place.refused(error)
        return CheckedStatement(claim, self._criteria.wanted, place)


def _about(name: str, reasons: _Refused) -> _Refused:
    return tuple(replace(it, what=name) for it in reasons)


def _names_image(signed: bytes, blob: Blob, place: StatementPosition) -> None:
    try:
        said = registry_responses.image_named(signed)
    except strict.MalformedError as error:
        hint = "have the image signed again, by `cosign sign`"
        why = f"{place.name}: the signed text can't be read: {error}"
        raise RefusedError(place.reason(ReasonCode.STATEMENT_MALFORMED, why, hint)) from error
    if said != blob.digest:
        hint = "take the signatures of this image, or name the image that was signed"
        raise RefusedError(place.mismatch(ReasonCode.SUBJECT_MISMATCH, str(blob), str(said), hint))


def signer_of(it: Attested | Authentic) -> str:
    """Who signed, for people: the certified identity, or the key's name in the policy or on the command line."""
    return it.signer.name if it.identity is None else f"{it.identity[0]}, certified by {it.identity[1]}"


def _as_packed(packed: Packed, claim: ForeignStatement, blob: Blob, place: StatementPosition) -> None:
    reasons = list[Reason]()
    if why := registry_responses.contradicts(packed, claim):
        hint = "get the answer from the registry again; what it says around a bundle has to be what is signed"
        reasons.append(place.reason(ReasonCode.PREDICATE_TYPE, f"{place.name}: {why}", hint))
    file = None if blob.read is None else PurePath(place.artifact).name
    if not registry_responses.names_file(packed, claim, file):
        said = ", ".join(repr(each.name) for each in claim.subjects[:2])
        expected = "a file with a name" if file is None else f"one subject with the file's own name {file!r}"
        hint = "name the distribution as it was published: PEP 740 ties an attestation to that name"
        reasons.append(place.mismatch(ReasonCode.SUBJECT_MISMATCH, expected, said, hint))
    if reasons:
        raise RefusedError(*reasons)


def _signed_file(packed: Packed, blob: Blob) -> Blob:
    """What a bare signature has to be over: the file, or a text that has to name it."""
    signed = packed.signed
    return blob if signed is None else Blob(Digest.of(signed), lambda: signed)


def _signature(
    attested: Attested, packed: Packed, blob: Blob, criteria: VerificationCriteria, place: StatementPosition
) -> CountedBundle:
    """A signature over the file itself, which authenticate_foreign has compared, or over a text that names it."""
    if packed.signed is not None:
        _names_image(packed.signed, blob, place)
    promised_statement = packed.predicate_type is not None
    if criteria.wanted.about_content or criteria.further is not nothing_further or promised_statement:
        hint = "hand in a statement about the file, or ask for nothing but its signature"
        said = "nothing: it is a bare signature over the file"
        raise RefusedError(place.mismatch(ReasonCode.PREDICATE_TYPE, "a statement", said, hint))
    return CountedBundle(place.number, attested, None, b"")
