"""Judges which of the bundles that were handed in count for a file, each alone; pure but for reading that file.

A registry's answer is unpacked first (registry_responses.py, image_layouts.py). For each bundle, in this order, and
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
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, assert_never

from mvmnix import strict
from mvmnix.errors import Reason, ReasonCode, RefusedError, bounded
from mvmnix.keys import Role
from mvmnix.model import Digest
from mvmnix.provenance.bundle import PAYLOAD_TYPE, Blob
from mvmnix.provenance.identity import Trust
from mvmnix.provenance.slsa import ForeignStatement, foreign_builds, in_toto
from mvmnix.provenance.verify import registry_responses
from mvmnix.provenance.verify.authentication import Attested, Authentic, Claim, authenticate_foreign, only_refusals
from mvmnix.provenance.verify.quorum import Quorum
from mvmnix.provenance.verify.registry_responses import Packed
from mvmnix.provenance.verify.requirements import Requirements, StatementPosition, unmet

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
    """A bundle that counts for the file: which of those handed in, by whom, and what it says; None for a signature."""

    number: int
    attested: Attested
    statement: ForeignStatement | None
    payload: bytes


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


def judge_artifact(
    name: str, blob: Blob, bundles: Sequence[bytes | Packed], criteria: VerificationCriteria
) -> AcceptedArtifact:
    """What counts for the file that people call `name`. Raises RefusedError with the reasons of all bundles."""
    counted, reasons = list[CountedBundle](), list[Reason]()
    unpacked = registry_responses.unpack_all(bundles)
    for number, packed in enumerate(unpacked, 1):
        try:
            with only_refusals(name):
                counted.append(_alone(StatementPosition(name, number, len(unpacked)), blob, packed, criteria))
        except RefusedError as error:
            reasons.extend(error.reasons)
    reasons += _revoked(name, blob, criteria)
    voices = _voices(counted)
    if not bundles:
        why = "no bundle was handed in that could say anything about it"
        reasons.append(Reason(ReasonCode.ATTESTATION_MISSING, name, why, _HAND_IN))
    elif counted and voices < criteria.signers:
        why = f"{voices} of {criteria.signers} builders that the policy asks for have built it"
        reasons.append(Reason(ReasonCode.REBUILDS_MISSING, name, why, "hand in the bundles of other builders as well"))
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


def _alone(place: StatementPosition, blob: Blob, packed: Packed, criteria: VerificationCriteria) -> CountedBundle:
    data = packed.data
    if packed.problem:
        raise RefusedError(place.reason(ReasonCode.BUNDLE_MALFORMED, f"{place.name}: {packed.problem}", _HAND_IN))
    try:
        trust, role, over = criteria.trust, criteria.role, _signed_file(packed, blob)
        attested = authenticate_foreign(
            data, trust=trust, role=role, what=place.name, blob=over, stamped=packed.stamped
        )  # 1
    except RefusedError as error:
        raise RefusedError(
            *(Reason(it.code, place.artifact, _said(it, place), it.hint) for it in error.reasons)
        ) from error
    signed = StatementPosition(place.artifact, place.number, place.total, signer_of(attested))
    match attested.content:
        case Claim():
            claim = _statement(attested, attested.content, blob, criteria.wanted, signed)  # 2, 3
            _as_packed(packed, claim, blob, signed)  # 3
            further = tuple(criteria.further(claim, attested, signed))  # 4
            if further:
                raise RefusedError(*further)
            return CountedBundle(place.number, attested, claim, attested.content.payload)
        case Digest():
            return _signature(attested, packed, blob, criteria, signed)  # 2, 3
        case _:
            assert_never(attested.content)


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


def _said(it: Reason, place: StatementPosition) -> str:
    about = "" if it.what == place.name else f"{it.what}: "
    return f"{place.name}: {about}{it.why}"


def signer_of(it: Attested | Authentic) -> str:
    """Who signed, for people: the certified identity, or the key's name in the policy or on the command line."""
    return it.signer.name if it.identity is None else f"{it.identity[0]}, certified by {it.identity[1]}"


def _statement(
    attested: Attested, content: Claim, blob: Blob, wanted: Requirements, place: StatementPosition
) -> ForeignStatement:
    if content.payload_type != PAYLOAD_TYPE:
        raise RefusedError(
            place.mismatch(ReasonCode.BUNDLE_MALFORMED, PAYLOAD_TYPE, content.payload_type, "sign an in-toto statement")
        )
    reasons = unmet(content.payload, blob, wanted, place, attested.certificate)
    if reasons:
        raise RefusedError(*reasons)
    return in_toto.parse(content.payload)


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
