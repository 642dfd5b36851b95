"""Chooses which trust domain has to witness a signature, and hears it: for step 3 of authenticate.py; pure.

A certificate is heard before each domain that the policy has identities of, before each by itself; a key before the one
whose log its signer needs, or the one whose log an entry names. The `sigstore` library is imported for certificates
only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mvmnix.errors import Reason, ReasonCode
from mvmnix.model import Digest
from mvmnix.provenance import trusted_root, witnesses
from mvmnix.provenance.envelope import Bundle, MessageBundle
from mvmnix.provenance.trust import Identity, Signer, Trust
from mvmnix.provenance.witnesses import Hearing, promised

if TYPE_CHECKING:
    from mvmnix.provenance.sigstore import Certified, UncertifiedError


@dataclass(frozen=True, slots=True)
class Testimony:
    """What came of it: which domains certified whom, when the signature was seen, and what speaks against it.

    `logged` says whether a log that is believed has it, whenever that was.
    """

    certified: "Mapping[Digest, Certified]"
    time: datetime | None
    reasons: tuple[Reason, ...]
    logged: bool = False

    def names(self, identity: Identity) -> bool:
        """Whether the identity's own domain certified somebody whom its patterns mean."""
        who = self.certified.get(identity.domain)
        return who is not None and identity.subject.matches(who.subject) and identity.issuer.matches(who.issuer)


NOTHING = Testimony({}, None, ())


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be heard: a bundle, its canonical bytes, whom to believe, the file that a bare signature is over."""

    what: str
    bundle: Bundle | MessageBundle
    canonical: bytes
    trust: Trust
    file: Digest | None


def hear(case: Case) -> Testimony:
    """Take the case before whoever has to hear it. Raises RefusedError for a trust root that can't be read."""
    if case.bundle.material.certificate:
        return _certificate(case)
    signer = case.trust.by_hint(case.bundle.material.hint)
    return NOTHING if signer is None else _key(case, signer)


def _key(case: Case, signer: Signer) -> Testimony:
    material = case.bundle.material
    domain = signer.log
    if domain is None and material.entries:
        domain = _domain_of(material.entries[0].log_id, case.trust)
        if domain is None:
            why = "it brings an entry of a log that no trust root of the policy has"
            hint = "pin that log's trust root in trust.toml, or have it signed without a log"
            return Testimony({}, None, (Reason(ReasonCode.LOG_ENTRIES, case.what, why, hint),))
    if domain is None and not material.timestamps:
        return NOTHING
    steps = witnesses.STEPS if domain is not None else (witnesses.step_3_5_time,)
    root = None if domain is None else _root(domain, case.trust)
    it = Hearing(
        case.what,
        case.bundle,
        domain or signer.fingerprint,
        None if root is None else trusted_root.parse(root),
        signer.key,
        case.file,
    )
    reasons = tuple(reason for step in steps for reason in step(it))
    return Testimony({}, promised(it.entry), reasons, logged=it.entry is not None and not reasons)


def _domain_of(log_id: bytes, trust: Trust) -> Digest | None:
    return next((digest for digest in sorted(trust.roots) if trusted_root.parse(trust.roots[digest]).log(log_id)), None)


#: Of trust roots, which are the same each time.
_digest: Final = lru_cache(maxsize=16)(Digest.of)


def _root(domain: Digest, trust: Trust) -> bytes | None:
    """The root's bytes, if they are the pinned ones: whoever filled the mapping may have erred."""
    data = trust.roots.get(domain)
    return None if data is None or _digest(data) != domain else data


def _certificate(case: Case) -> Testimony:
    domains = sorted({one.credential.domain for one in case.trust.signers if isinstance(one.credential, Identity)})
    heard = [_heard(case, domain) for domain in domains]
    certified = {it.domain: it.certified[0] for it, reasons in heard if it.settled and not reasons}
    if certified or not heard:
        moment = min((each.time for each in certified.values()), default=None)
        return Testimony(certified, moment, (), logged=bool(certified))
    # of several domains, those tell what is wrong whose authority the certificate is of
    concerned = [reasons for it, reasons in heard if not _is_strange(reasons)] or [reasons for _, reasons in heard]
    return Testimony({}, None, tuple(reason for reasons in concerned for reason in reasons))


def _is_strange(reasons: tuple[Reason, ...]) -> bool:
    return any(reason.code is ReasonCode.CERTIFICATE_INVALID for reason in reasons)


def _heard(case: Case, domain: Digest) -> tuple[Hearing, tuple[Reason, ...]]:
    root = _root(domain, case.trust)
    parsed = None if root is None else trusted_root.parse(root)
    one = len(case.bundle.material.entries) == 1
    certified, errors = _asked(case, root) if one and root is not None else ((), ())
    it = Hearing(case.what, case.bundle, domain, parsed, None, case.file, certified, errors)
    reasons = [reason for step in witnesses.STEPS for reason in step(it)]
    forged = witnesses.forged(it)
    if forged is not None:
        reasons.append(it.reason(ReasonCode.SIGNATURE_INVALID, forged))
    return it, tuple(reasons)


def _asked(case: Case, root: bytes) -> "tuple[tuple[Certified, ...], tuple[UncertifiedError, ...]]":
    """What the library says of each source of time alone."""
    from mvmnix.provenance import sigstore  # noqa: PLC0415 - a third of a second, which keys don't pay

    certified: list[Certified] = []
    errors: list[UncertifiedError] = []
    for moment, data in _sources(case):
        try:
            certified.append(sigstore.certified(data, root=root, moment=moment, file=case.file))
        except sigstore.UncertifiedError as error:
            errors.append(error)
    return tuple(certified), tuple(errors)


def _sources(case: Case) -> Iterator[tuple[datetime | None, bytes]]:
    """The bundle with each of its sources of time alone: the time that the log promised, and each timestamp."""
    bundle, material = case.bundle, case.bundle.material
    moment = promised(material.entries[0])
    if not material.timestamps:  # as most are: one source of time, and so the bundle itself
        if moment is not None:
            yield moment, case.canonical
        return
    if moment is not None:
        yield moment, replace(bundle, material=replace(material, timestamps=())).to_bytes()
    unpromised = tuple(replace(entry, promise=None, integrated=None) for entry in material.entries)
    for stamp in material.timestamps:
        alone = replace(bundle, material=replace(material, entries=unpromised, timestamps=(stamp,)))
        yield None, alone.to_bytes()
