"""Reads what a signing certificate says of the build that it was made for, and where a statement says otherwise; pure.

The extensions are Fulcio's (fulcio, docs/oid-info.md), from the token of the CI job. Who signed a provenance could
write anything into it; the certificate has the word of the one that ran the job.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.provenance.identity import certificates
from mvmnix.provenance.slsa import foreign_builds
from mvmnix.provenance.slsa.in_toto import ForeignStatement

_ARC: Final = "1.3.6.1.4.1.57264.1"
#: By their last number: UTF8String in DER, and the older ones in raw text.
_NAMES: Final = {"9": "builder", "12": "repository", "13": "commit", "14": "ref", "21": "run"}
_OLDER: Final = {"3": "commit", "6": "ref"}


@dataclass(frozen=True, slots=True)
class CertificateMismatch:
    """That a statement says something else than the certificate under it."""

    code: ReasonCode
    what: str
    said: str
    certified: str


def read(certificate: bytes) -> Mapping[str, str]:
    """What the certificate says: builder, repository, commit, ref, run; what it doesn't say is not there.

    Raises ValueError for extensions in another form.
    """
    from mvmnix.provenance.identity.certificate_names import utf8  # noqa: PLC0415 - loads X.509, which keys don't need

    values = {
        each.oid.dotted_string.removeprefix(f"{_ARC}."): each.value.public_bytes()
        for each in certificates.from_der(certificate).extensions
        if each.oid.dotted_string.startswith(f"{_ARC}.")
    }
    newer = {name: utf8(values[number]) for number, name in _NAMES.items() if number in values}
    return {name: values[number].decode() for number, name in _OLDER.items() if number in values} | newer


def disagreements(it: ForeignStatement, certificate: bytes) -> Iterator[CertificateMismatch]:
    """Where the provenance and the certificate of its signer name different things; both have to name them.

    A source that can't be read is not compared: a check that needs it refuses that. Raises ValueError as `read` does.
    """
    if not certificate or not foreign_builds.is_provenance(it):
        return
    certified = read(certificate)
    try:
        source = foreign_builds.origin(it)
    except RefusedError:
        source = None
    run = foreign_builds.invocation(it)
    said = {
        "repository": None if source is None else source.repository,
        "commit": None if source is None else source.commit,
        "ref": None if source is None else source.ref,
        "run": run if run is not None and "://" in run else None,
        "builder": foreign_builds.builder_id(it) if foreign_builds.builder_signs(it) else None,
    }
    for what, value in said.items():
        if value is not None and certified.get(what, value) != value:
            code = ReasonCode.BUILDER_MISMATCH if what in {"run", "builder"} else ReasonCode.SOURCE_MISMATCH
            yield CertificateMismatch(code, what, value, certified[what])
