"""Chooses which trust domain has to witness a signature, and asks it: for step 3 of authentication.py; pure.

A certificate is evaluated against each domain that the policy has identities of, separately; a key against the one
whose log its signer needs, or, where it needs none, against each whose log its entry names, or each whose authority may
have made its timestamps. One that vouches for everything that the bundle brings is enough. Most keys need no domain,
and load none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.bundle.verification_material import Inclusion, Material
from mvmnix.provenance.identity.trust import Identity, Signer, Trust

if TYPE_CHECKING:
    from mvmnix.provenance.identity.certificate_facts import CertificateFacts
    from mvmnix.provenance.identity.timestamps import Times
    from mvmnix.provenance.identity.transparency import DomainEvidence
    from mvmnix.provenance.identity.trusted_root import TrustedRoot


@dataclass(frozen=True, slots=True)
class IdentityFindings:
    """What came of it: which domains certified whom, when the signature was seen, and what speaks against it.

    `certified` is subject and OIDC issuer, by domain; `inclusion` what shows that a log that is trusted has it,
    whenever that was.
    """

    certified: Mapping[Digest, tuple[str, str]]
    time: datetime | None
    reasons: tuple[Reason, ...]
    inclusion: Inclusion = Inclusion.NONE

    def names(self, identity: Identity) -> bool:
        """Whether the identity's own domain certified a subject and an issuer that its patterns match."""
        who = self.certified.get(identity.domain)
        return who is not None and identity.matches(*who)


NOTHING = IdentityFindings({}, None, ())


@dataclass(frozen=True, slots=True)
class DomainCase:
    """What is to be heard: a bundle, whom to trust, the file that a bare signature is over.

    `proof` says whether a log that has to have the signature has to prove that, as it has for all that starts.
    """

    what: str
    bundle: Bundle | MessageBundle
    trust: Trust
    file: Digest | None
    proof: bool


def check_identity(case: DomainCase) -> IdentityFindings:
    """Take the case before the domains that must hear it. Raises RefusedError for a trust root that can't be read."""
    if case.bundle.material.certificate:
        return _certificate(case)
    signer = case.trust.by_hint(case.bundle.material.hint)
    return NOTHING if signer is None else _key(case, signer)


def _key(case: DomainCase, signer: Signer) -> IdentityFindings:
    if signer.log is not None:
        return _key_before(case, signer, signer.log)
    material = case.bundle.material
    if not material.entries and not material.timestamps:
        return NOTHING
    domains = _domains_of(material, case.trust)
    if not domains:
        looked = ", ".join(map(str, sorted(case.trust.roots))) or "none"
        if material.entries:
            why = f"it brings an entry of a log that no trust root here has (looked into: {looked})"
            hint = "pin that log's trust root in trust.toml, or have it signed without a log"
            return IdentityFindings({}, None, (Reason(ReasonCode.LOG_ENTRIES, case.what, why, hint),))
        why = "it brings a timestamp, and there is no trust root to check it by"
        hint = "pin the trust root of its authority in trust.toml, or have it signed without a timestamp"
        return IdentityFindings({}, None, (Reason(ReasonCode.SIGNING_TIME, case.what, why, hint),))
    # each by itself: two of them may have the same log, of which one has no authority for timestamps
    verdicts = [_key_before(case, signer, domain) for domain in domains]
    return next((verdict for verdict in verdicts if not verdict.reasons), verdicts[0])


def _domains_of(material: Material, trust: Trust) -> list[Digest]:
    """Those whose log the first entry names; without an entry all, for a timestamp names none."""
    domains = sorted(trust.roots)
    if not material.entries:
        return domains
    from mvmnix.provenance.identity import trusted_root  # noqa: PLC0415 - keys without a log don't need it

    log_id = material.entries[0].log_id
    return [each for each in domains if trusted_root.parse(trust.roots[each]).log(log_id) is not None]


def _key_before(case: DomainCase, signer: Signer, domain: Digest) -> IdentityFindings:
    it, reasons = _checked(case, domain, signer)
    included = Inclusion.NONE if reasons else case.bundle.material.inclusion
    return IdentityFindings({}, min(it.times.all, default=None), reasons, included)


@lru_cache(maxsize=16)
def _digest(root: bytes) -> Digest:
    """Of a trust root, which is the same each time."""
    return Digest.of(root)


def _root(domain: Digest, trust: Trust) -> bytes | None:
    """The root's bytes, if they are the pinned ones: the mapping may have been filled wrongly."""
    data = trust.roots.get(domain)
    return None if data is None or _digest(data) != domain else data


def _certificate(case: DomainCase) -> IdentityFindings:
    domains = sorted({one.credential.domain for one in case.trust.signers if isinstance(one.credential, Identity)})
    heard = [(domain, *_checked(case, domain, None)) for domain in domains]
    passed = {domain: it for domain, it, reasons in heard if not reasons}
    if passed:
        certified = {domain: names for domain, it in passed.items() for names in _certified(it)}
        moment = min((time for it in passed.values() for time in it.times.all), default=None)
        return IdentityFindings(certified, moment, (), case.bundle.material.inclusion)
    # of several domains, those tell what is wrong whose authority the certificate is of
    told = [reasons for _, _, reasons in heard]
    concerned = [reasons for reasons in told if not _is_strange(reasons)] or told
    return IdentityFindings({}, None, tuple(reason for reasons in concerned for reason in reasons))


def _certified(it: "DomainEvidence") -> Iterator[tuple[str, str]]:
    """Subject and issuer of the certificate, where it names exactly one of each."""
    if it.facts is not None and isinstance(it.facts.names, tuple):
        yield it.facts.names


def _is_strange(reasons: tuple[Reason, ...]) -> bool:
    return any(reason.code is ReasonCode.CERTIFICATE_INVALID for reason in reasons)


def _checked(case: DomainCase, domain: Digest, signer: Signer | None) -> "tuple[DomainEvidence, tuple[Reason, ...]]":
    """What one domain has of a key's signature, or of a certificate's where there is no signer; why that is too little.

    Whether a plain key made the signature, step 3 says.
    """
    from mvmnix.provenance.identity import timestamps, transparency, trusted_root  # noqa: PLC0415 - as above

    data = _root(domain, case.trust)
    root = None if data is None else trusted_root.parse(data)
    times = timestamps.gather(case.bundle, root)
    it = transparency.DomainEvidence(
        case.what,
        case.bundle,
        domain,
        root,
        times,
        None if signer is None else signer.key,
        case.file,
        None if signer is not None or root is None else _facts(case, root, times),
        case.proof,
        needs_log=signer is None or signer.log is not None,
    )
    reasons = [reason for step in transparency.STEPS for reason in step(it)]
    if (forged := transparency.forged(it)) is not None:
        reasons.append(it.reason(ReasonCode.SIGNATURE_INVALID, forged))
    return it, tuple(reasons)


def _facts(case: DomainCase, root: "TrustedRoot", times: "Times") -> "CertificateFacts":
    from mvmnix.provenance.identity import certificate_facts  # noqa: PLC0415 - loads X.509, which keys don't need

    return certificate_facts.gather(case.bundle, root, case.file, times.all)
