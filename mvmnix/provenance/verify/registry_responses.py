"""Finds the bundles in what package registries answer, by content; pure.

Nothing of what stands around a bundle is signed.

- npm, the attestations of a package version: `{"attestations": [{"predicateType", "bundle"}]}`;
- GitHub, the attestations of a digest: `{"attestations": [{"bundle", …}]}`;
- PyPI (PEP 740): an attestation, or a provenance object with several of them. Such an attestation is a bundle in other
  words (PEP 740, "Attestation objects"), and says more by its rules: one subject, named like the distribution file, and
  one of two predicate types.

A DSSE envelope alone is known as such, to say what is missing. Anything else is left as it came.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final, cast

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from mvmnix.provenance.bundle.statement import PAYLOAD_TYPE
from mvmnix.provenance.slsa.build_types import PREDICATE_TYPE
from mvmnix.provenance.slsa.in_toto import ForeignStatement

#: Attestations in an answer; its bytes are bounded like a bundle's.
MOST: Final = 1024
#: PyPI's type for a publish attestation, put together so that nothing here has the registry's address in it.
PUBLISH: Final = ".".join(("https://docs", "pypi", "org/attestations/publish/v1"))  # noqa: FLY002 - see above
#: One of these is in every answer; most bundles have none of them, and are not parsed here.
_MARKS: Final = (b'"attestations"', b'"attestation_bundles"', b'"verification_material"')
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_ENVELOPE: Final = (
    "it is a DSSE envelope alone, which carries neither certificate nor log entry: nothing says who signed it, and when"
)

#: What an image's signature says that it is (cosign, specs/SIGNATURE_SPEC.md), and the digest that it names.
_SIGNED: Final = "cosign container image signature"
_DIGEST: Final = r"sha256:[0-9a-f]{64}"

type Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle, unread, and what its packaging claims: the predicate type of the statement in it, if that.

    `is_pep_740` is for an attestation of PyPI's, which has rules of its own. `problem` says why there is no bundle. Of
    an image's signatures and attestations (cosign_layouts.py): `signed` is the text that a signature is over, which has
    to name the image; `stamped` the envelope that timestamps are over.
    """

    data: bytes
    predicate_type: str | None = None
    is_pep_740: bool = False
    problem: str = ""
    signed: bytes | None = None
    stamped: bytes = b""


def unpack(data: bytes) -> tuple[Packed, ...]:
    """Every bundle in an answer, or the one that it is itself. What can't be read is left to the bundle's reader."""
    value: object = None
    if b'"mediaType"' not in data or any(mark in data for mark in _MARKS):
        with suppress(strict.MalformedError):
            value = strict.parse_json(data, limit=BUNDLE_LIMIT)
    match value:
        case {"mediaType": _}:
            return (Packed(data),)
        case {"attestations": list() as attestations}:
            return _bounded(map(_attestation, attestations))
        case {"attestation_bundles": list() as bundles}:
            return _bounded(_provenance(cast("Json", value), bundles))
        case {"verification_material": _, "envelope": _}:
            return (_pypi(value),)
        case {"payloadType": _, "payload": _, "signatures": _}:
            return (Packed(data, problem=_ENVELOPE),)
        case _:
            return (Packed(data),)


def _bounded(found: Iterator[Packed]) -> tuple[Packed, ...]:
    without = Packed(b"", problem="it is an answer without attestations")
    return _at_most(found, f"it has more than {MOST} attestations") or (without,)


def _at_most(found: Iterator[Packed], problem: str) -> tuple[Packed, ...]:
    """All of them; where there are too many, one that says so, and no further ones are looked at."""
    first = tuple(islice(found, MOST))
    return first if next(found, None) is None else (Packed(b"", problem=problem),)


def unpack_all(bundles: Iterable[bytes | Packed]) -> tuple[Packed, ...]:
    """Every bundle in all of these, some of which may be unpacked; one that says so where there are too many."""
    found = (packed for each in bundles for packed in ((each,) if isinstance(each, Packed) else unpack(each)))
    return _at_most(found, f"there are more than {MOST} bundles")


def _attestation(value: object) -> Packed:
    """One of npm's or GitHub's, which alone has no predicate type beside the bundle."""
    match value:
        case {"predicateType": str() as kind, "bundle": dict() as bundle}:
            return Packed(_written(bundle), kind)
        case {"predicateType": _, **_others}:
            return Packed(b"", problem="an attestation of npm's answer has no predicate type, or no bundle")
        case {"bundle": dict() as bundle}:
            return Packed(_written(bundle))
        case {"bundle_url": str()}:
            return Packed(b"", problem="its bundle is at another address, and nothing is fetched")
        case _:
            return Packed(b"", problem="an attestation of the answer has no bundle")


def _provenance(fields: Json, bundles: Sequence[object]) -> Iterator[Packed]:
    """PyPI's provenance object; what it says of publishers is PyPI's word, and not looked at."""
    if fields.get("version") != 1:
        yield Packed(b"", problem=f"its version is {str(fields.get('version'))[:16]!r}, not 1")
        return
    for each in bundles:
        match each:
            case {"attestations": list() as attestations}:
                yield from map(_pypi, attestations)
            case _:
                yield Packed(b"", problem="a bundle of attestations has none")


def _pypi(value: object) -> Packed:
    try:
        bundle = strict.read(value, "attestation", _pypi_bundle)
    except strict.MalformedError as error:
        return Packed(b"", problem=str(error))
    return Packed(_written(bundle), is_pep_740=True)


def _pypi_bundle(record: strict.Record) -> Json:
    """PEP 740, "Attestation objects", in the words of a bundle; its parts are read as those of any other."""
    record.integer("version", 1, 1)
    certificate, entries = record.child(
        "verification_material", lambda it: (it.value("certificate"), it.array("transparency_entries", 16))
    )
    payload, signature = record.child("envelope", lambda it: (it.value("statement"), it.value("signature")))
    envelope = {"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": signature, "keyid": ""}]}
    material = {"certificate": {"rawBytes": certificate}, "tlogEntries": list(entries)}
    return {"mediaType": _BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}


def _written(bundle: Json) -> bytes:
    """As a file of its own; numbers and texts are what they were, for the answer has been read as strictly as that."""
    return json.dumps(bundle, separators=(",", ":")).encode()


def contradicts(it: Packed, claim: ForeignStatement) -> str:
    """How a signed statement is another than its packaging says; nothing where it is not."""
    if it.predicate_type is not None and claim.predicate_type != it.predicate_type:
        return f"the answer calls it {it.predicate_type!r}, and it says {claim.predicate_type!r}"
    if it.is_pep_740 and claim.predicate_type not in {PUBLISH, PREDICATE_TYPE}:
        return f"an attestation by PEP 740 can't say {claim.predicate_type!r}"
    if it.is_pep_740 and claim.predicate_type == PUBLISH and claim.predicate:
        return "its predicate is not empty, as that of a publish attestation is"
    return ""


def names_file(it: Packed, claim: ForeignStatement, file: str | None) -> bool:
    """Whether the one subject is named like the distribution, where the packaging is PyPI's; any name otherwise."""
    if not it.is_pep_740:
        return True
    match claim.subjects:
        case (only,):
            return file is not None and _distribution(only.name) == _distribution(file)
        case _:
            return False


def image_named(signed: bytes) -> Digest:
    """The image that a signed text names. Raises MalformedError.

    containers/image, docs/containers-signature.5.md: what is `critical` has to be understood, all of it; of what is
    `optional` nothing is. The name that the image had when it was signed (`docker-reference`) is not looked at.
    """
    return strict.read(
        strict.parse_json(signed, limit=BUNDLE_LIMIT, fraction=lambda text: text), "text", _simple_signing
    )


def _simple_signing(record: strict.Record) -> Digest:
    record.has("optional")
    return record.child("critical", _critical)


def _critical(record: strict.Record) -> Digest:
    record.text("type", re.escape(_SIGNED))
    record.child("identity", lambda it: it.text("docker-reference"))
    return record.child("image", lambda it: Digest(it.text("docker-manifest-digest", _DIGEST).removeprefix("sha256:")))


def _distribution(name: str) -> tuple[object, ...]:
    """What a file name of a wheel or source distribution means: spellings of one name and version are the same."""
    from packaging import utils  # noqa: PLC0415 - what launches import stays in each supervisor

    with suppress(utils.InvalidWheelFilename):
        return ("wheel", *utils.parse_wheel_filename(name))
    with suppress(utils.InvalidSdistFilename):
        return ("sdist", *utils.parse_sdist_filename(name), name.endswith(".zip"))
    return (name,)
