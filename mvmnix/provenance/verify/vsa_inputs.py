"""The bundles behind a verification summary, by everything that a revocation can name of each; pure.

A launcher that is given a summary has none of these bundles. So the summary lists, beside the digest of each bundle,
what the steps of a verification hold against the revocations: the statement, the signer and the image that built it.
The list is an extension of the predicate (in-toto attestation spec, v1, "Parsing rules": readers ignore fields that
they don't know), named as the SLSA specification asks of extensions, with the vendor's prefix.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.bundle.statement import Statement, Subject, parse_subject, subject_value
from mvmnix.provenance.identity import revocation_check
from mvmnix.provenance.identity.trust import Revocations, Trust
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import authenticate

#: The field of the predicate.
FIELD: Final = "mvmnix_inputs"
#: Bundles that a summary may stand on.
MOST: Final = 1024

_WHAT: Final = "the verification summary"
_REBUILD: Final = "build the image again from what is not revoked: `mvm build --again FLAKE`; then verify it again"
_NAME: Final = r"provenance|evidence-[1-9][0-9]{0,3}"
_TEXT: Final = r"[^\x00]{1,4096}"


@dataclass(frozen=True, slots=True)
class SummaryInput:
    """One bundle that the verifier relied on.

    `mirrored` is the digest of the same bundle with the other ECDSA signature (identity/revocation_check.py), None
    where there is none; `statement` that of the payload; `key` that of the SubjectPublicKeyInfo of the key that signed,
    certified or not; `identity` are subject and issuer as certified; `builder_image` the files of the image that the
    build ran in.
    """

    name: str
    bundle: Digest
    mirrored: Digest | None
    statement: Digest
    key: Digest
    identity: tuple[str, str] | None
    builder_image: tuple[Subject, ...]


#: Reads how something was built out of a statement of one build type. Raises RefusedError.
type ReadBuild = Callable[[Statement], Provenance]


def relied_on(bundles: Iterable[tuple[bytes, ReadBuild]], trust: Trust) -> tuple[SummaryInput, ...]:
    """The bundles among these that a signer whom the policy admits signed, each once, the provenance first.

    The others have not counted in any verification: what a stranger put beside an image is no evidence for it.
    """
    found: dict[Digest, SummaryInput] = {}
    for data, read in bundles:
        try:
            each = _read(data, read, trust, f"evidence-{len(found)}" if found else "provenance")
        except RefusedError:
            continue
        found.setdefault(each.bundle, each)
    return tuple(found.values())


def _read(data: bytes, read: ReadBuild, trust: Trust, name: str) -> SummaryInput:
    authentic = authenticate(data, trust=trust, role=Role.BUILDER, what=name)
    return SummaryInput(
        name=name,
        bundle=authentic.digest,
        mirrored=revocation_check.mirrored(envelope.parse_bundle(data)),
        statement=Digest.of(authentic.payload),
        key=authentic.spki,
        identity=authentic.identity,
        builder_image=read(statement.parse(authentic.payload)).builder_image,
    )


def to_json(inputs: Iterable[SummaryInput]) -> list[Mapping[str, object]]:
    """As they stand in the predicate; the bundles' own digests are its `inputAttestations`, under the same names."""
    return [_value(it) for it in inputs]


def _value(it: SummaryInput) -> Mapping[str, object]:
    value: dict[str, object] = {
        "name": it.name,
        "statement": it.statement.hex,
        "key": it.key.hex,
        "builderImage": [subject_value(subject) for subject in it.builder_image],
    }
    if it.mirrored is not None:
        value["mirrored"] = it.mirrored.hex
    if it.identity is not None:
        value["identity"] = {"subject": it.identity[0], "issuer": it.identity[1]}
    return value


def from_record(record: strict.Record, bundles: tuple[Subject, ...]) -> tuple[SummaryInput, ...] | None:
    """The inputs of a summary whose inputAttestations are `bundles`; None for a summary that lists none.

    Raises ValueError unless it lists all of them, in their order.
    """
    if not record.has(FIELD):
        return None
    digests = {subject.name: subject.digest for subject in bundles}
    found = record.each(FIELD, lambda it: _parse(it, digests))
    if [it.name for it in found] != list(digests):
        raise ValueError(f"{FIELD} and inputAttestations don't name the same bundles")
    return found


def _parse(record: strict.Record, bundles: Mapping[str, Digest]) -> SummaryInput:
    name, signed = record.text("name", _NAME), record.digest("statement")
    return SummaryInput(
        name=name,
        bundle=bundles.get(name, signed),
        mirrored=record.digest("mirrored") if record.has("mirrored") else None,
        statement=signed,
        key=record.digest("key"),
        identity=record.child("identity", _identity) if record.has("identity") else None,
        builder_image=record.each("builderImage", parse_subject, 16),
    )


def _identity(record: strict.Record) -> tuple[str, str]:
    return record.text("subject", _TEXT), record.text("issuer", _TEXT)


def revoked(it: SummaryInput, revocations: Revocations) -> Iterator[Reason]:
    """Why this bundle is no longer trusted: as revocation_check.py and checks.py say it of a bundle at hand."""
    for what, digest in (("bundle", it.bundle), ("mirrored bundle", it.mirrored), ("statement", it.statement)):
        if digest in revocations.digests:
            why = f"the {what} {digest} ({it.name}), at which the verifier looked, {revocations.words(digest)}"
            yield Reason(ReasonCode.BUNDLE_REVOKED, _WHAT, why, _REBUILD)
    if it.key in revocations.keys:
        why = f"the key {it.key}, which signed {it.name}, is revoked"
        yield Reason(ReasonCode.SIGNER_REVOKED, _WHAT, why, _REBUILD)
    if it.identity is not None and revocations.revokes(*it.identity):
        why = f"the {revocation_check.identity_words(it.identity)}, which signed {it.name}, is revoked"
        yield Reason(ReasonCode.SIGNER_REVOKED, _WHAT, why, _REBUILD)
    for subject in it.builder_image:
        if subject.digest in revocations.digests:
            told = revocations.words(subject.digest)
            why = f"the {subject.name} of the image that built it ({subject.digest}, of {it.name}) {told}"
            yield Reason(ReasonCode.IMAGE_REVOKED, _WHAT, why, _REBUILD)
