"""Hears those who witnessed a signature, the log, authorities and certificate of one trust domain; pure.

These are the sub-steps of step 3 in authentication.py. They are taken for every certificate, and for a key whose
signature has to be in a log or that brings log entries or timestamps. A domain is what one trusted_root.json says; it
alone decides.

    3.1 the domain's trust root is at hand, with the bytes that the policy pins; each log and authority in it says since
        when it is trusted (trusted_root.py);
    3.2 there is exactly one log entry; none where a key needs no log, or where the domain has none and a timestamp may
        stand in for one;
    3.3 the domain's log holds it: proof, checkpoint and inclusion promise (SET), each that is there; a proof has to be
        there unless the caller takes the log's promise for it;
    3.4 it is about this very signature, payload and key or certificate;
    3.5 each time of signing that it brings is right; a certificate has one at least, and was valid at each;
    3.6 log and authorities were trusted at that time (`validFor`, both ends);
    3.7 the domain's authority certified the key for signing code, and its CT log saw that (SCT);
    3.8 the certificate names exactly one subject and one OIDC issuer.

For a key 3.7 and 3.8 have no object, nor has the certificate's part of 3.5. A key needs no log unless its signer
says so; entries and timestamps that are there all the same are checked before one root, or refused (domain_check.py).
Where nothing says when, it can't be told whether the log was still trusted then: it has to be trusted until further
notice. The log's time counts where it promised one, and in entries of Rekor's first version only. What is wrong with
usages or SCT is told where no other step refuses: an SCT of another domain's CT log often is what another domain's log
entry shows more plainly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode
from mvmnix.formats.strict import MalformedError, show_time
from mvmnix.keys import PublicKey
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.bundle.verification_material import LogEntry, Material
from mvmnix.provenance.identity import rekor, rekor_body
from mvmnix.provenance.identity.rekor_body import TIMELESS, Expected, Recorded
from mvmnix.provenance.identity.timestamps import Times
from mvmnix.provenance.identity.trusted_root import TrustedRoot, Window

if TYPE_CHECKING:
    from mvmnix.provenance.identity.certificate_facts import CertificateFacts

_AGAIN: Final = "get an unchanged copy of the bundle, or have it signed again"


@dataclass(frozen=True, slots=True)
class DomainEvidence:
    """A signature before one trust domain. `root` is None where its file is not at hand; `file` is for bare signatures.

    `key` is None for a certificate, `facts` for a key, and without a root. `needs_log` is False for a key that may do
    without a log. `proof` says whether a log that has to have the signature has to prove that: then neither its promise
    nor a timestamp is enough.
    """

    what: str
    bundle: Bundle | MessageBundle
    domain: Digest
    root: TrustedRoot | None
    times: Times
    key: PublicKey | None = None
    file: Digest | None = None
    facts: "CertificateFacts | None" = None
    proof: bool = True
    needs_log: bool = True

    @property
    def material(self) -> Material:
        """Who is claimed to have signed, and what witnesses are claimed to have said."""
        return self.bundle.material

    @property
    def entry(self) -> LogEntry | None:
        """The one log entry."""
        return self.material.entry

    @property
    def is_without_log(self) -> bool:
        """Whether no log has to have it: a key needs none, or a timestamp is taken for it where the domain has none."""
        no_log = self.root is not None and not self.root.logs
        stands_in = no_log and not self.proof and bool(self.material.timestamps)
        return not self.material.entries and (stands_in or not self.needs_log)

    def reason(self, code: ReasonCode, why: str) -> Reason:
        """A reason, with what to do about most of them."""
        return Reason(code, self.what, why, _AGAIN)


type Step = Callable[[DomainEvidence], Iterator[Reason]]


def step_3_1_root(it: DomainEvidence) -> Iterator[Reason]:
    """3.1 The pinned file is there."""
    if it.root is None:
        hint = "put it into roots/ beside trust.toml, or pin the root that is there"
        why = f"the trust root {it.domain}, which has to vouch for it, is not at hand"
        yield Reason(ReasonCode.ROOT_MISMATCH, it.what, why, hint)


def step_3_2_one_entry(it: DomainEvidence) -> Iterator[Reason]:
    """3.2 Neither none nor several, of which the wrong one could be looked at."""
    if it.entry is None and not it.is_without_log:
        yield it.reason(ReasonCode.LOG_ENTRIES, f"it has {len(it.material.entries)} log entries, not exactly one")


def step_3_3_log(it: DomainEvidence) -> Iterator[Reason]:
    """3.3 The log signed for it, and what no signature covers fits."""
    if it.entry is None or it.root is None:
        return
    log = it.root.log(it.entry.log_id)
    for why in (*rekor.incoherences(it.entry, it.root), *(() if log is None else rekor.unproven(it.entry, log))):
        yield it.reason(ReasonCode.LOG_INCLUSION, why)
    if it.proof and it.entry.proof is None:
        hint = "have the log's proof added, or take its promise: `mvm verify`, without require-inclusion in the policy"
        why = "the log promised to hold it, and there is no proof that it does"
        yield Reason(ReasonCode.LOG_INCLUSION, it.what, why, hint)


def step_3_4_body(it: DomainEvidence) -> Iterator[Reason]:
    """3.4 The body names signature, payload or file, and key or certificate."""
    if it.entry is None:
        return
    try:
        found = rekor_body.read(it.entry)
    except MalformedError as error:
        for problem in error.problems:
            yield it.reason(ReasonCode.LOG_ENTRY_MISMATCH, f"the body of its log entry can't be read: {problem}")
        return
    if differences := expected(it, found).differences(found):
        yield it.reason(ReasonCode.LOG_ENTRY_MISMATCH, f"its log entry is about another {', '.join(differences)}")


def expected(it: DomainEvidence, found: Recorded) -> Expected:
    """What the log's entry has to be about; the envelope is put into other forms only for an entry that names one."""
    verifier = it.material.certificate if it.key is None else it.key.spki
    match it.bundle:
        case Bundle() as bundle:
            payload, signed = Digest.of(bundle.payload), Digest.of(bundle.signed_bytes)
            forms = () if found.envelope is None else bundle.formatted
            envelopes = frozenset(Digest.of(form) for form in forms)
            return Expected(verifier, bundle.signature, payload, signed, bundle.payload_type, envelopes)
        case MessageBundle() as bundle:
            return Expected(verifier, bundle.signature, None, it.file)


def step_3_5_time(it: DomainEvidence) -> Iterator[Reason]:
    """3.5 None that is wrong, and for a certificate at least one."""
    logged, stamped = it.times.logged, it.material.timestamps
    if it.key is None and logged is None and not stamped and len(it.material.entries) <= 1:
        yield it.reason(ReasonCode.SIGNING_TIME, "neither a log nor a timestamp says when it was signed")
    if it.entry is not None and (it.entry.kind, it.entry.version) in TIMELESS and logged is not None:
        why = f"its log entry has a time, which entries of the kind {it.entry.kind} {it.entry.version} have not"
        yield it.reason(ReasonCode.SIGNING_TIME, why)
    for why in it.times.broken:
        yield it.reason(ReasonCode.SIGNING_TIME, f"a timestamp of it does not hold: {why}")
    for moment in it.times.all:
        if it.facts is not None and it.facts.outside(moment):
            why = f"it was signed at {show_time(moment)}, when its certificate was not valid"
            yield it.reason(ReasonCode.SIGNING_TIME, why)


def step_3_6_windows(it: DomainEvidence) -> Iterator[Reason]:
    """3.6 Both ends of each `validFor`, at each time at which the signature was seen."""
    for who, windows, moment in _windows(it):
        if windows and not any(window.holds(moment) for window in windows):
            why = f"it is of {show_time(moment)}, when {who} of the trust root was not trusted"
            yield it.reason(ReasonCode.AUTHORITY_WINDOW, why)
    if it.key is None or it.root is None or it.entry is None or it.times.all:
        return
    log = it.root.log(it.entry.log_id)
    if log is not None and log.window.end is not None:
        why = f"the log was trusted until {show_time(log.window.end)}, and did not promise when it took it in"
        yield it.reason(ReasonCode.AUTHORITY_WINDOW, why)


def _windows(it: DomainEvidence) -> Iterator[tuple[str, list[Window], datetime]]:
    """Who was relied on at which time, and when they were trusted; several windows where several entries would do."""
    log = None if it.entry is None or it.root is None else it.root.log(it.entry.log_id)
    if log is not None:
        yield from (("the log", [log.window], moment) for moment in it.times.all)
    for stamp in it.times.stamps:
        yield "the timestamp authority", [each.window for each in stamp.authorities], stamp.time
    if it.facts is None:
        return
    for moment, found in it.facts.paths if it.times.all else ():
        yield "the certificate authority", [each.authority.window for each in found], moment
        yield "the CT log", [log.window for log in it.facts.ct_logs], moment


def step_3_7_certificate(it: DomainEvidence) -> Iterator[Reason]:
    """3.7 There is a path to it from an authority, it is for signing code, and its SCT holds."""
    if it.facts is None:
        return
    if not it.facts.is_issued:
        yield it.reason(ReasonCode.CERTIFICATE_INVALID, f"no authority of the trust root {it.domain} certified its key")
    elif it.facts.forged is None:
        for why in it.facts.unusable:
            if not any(True for step in _OTHERS for _ in step(it)):
                yield it.reason(ReasonCode.CERTIFICATE_INVALID, why)


def step_3_8_names(it: DomainEvidence) -> Iterator[Reason]:
    """3.8 One subject, one issuer; the names of a certificate that doesn't hold are not checked."""
    if it.facts is not None and it.facts.is_issued and not it.facts.unusable and isinstance(it.facts.names, str):
        yield it.reason(ReasonCode.IDENTITY_MALFORMED, it.facts.names)


_OTHERS: Final[tuple[Step, ...]] = (
    step_3_2_one_entry,
    step_3_3_log,
    step_3_4_body,
    step_3_5_time,
    step_3_6_windows,
    step_3_8_names,
)
STEPS: tuple[Step, ...] = (step_3_1_root, *_OTHERS[:5], step_3_7_certificate, step_3_8_names)


def forged(it: DomainEvidence) -> str | None:
    """Why the signature is not the certified key's; None where it is, and for a plain key's, which step 3 checks."""
    return None if it.facts is None else it.facts.forged
