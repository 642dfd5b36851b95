"""Hears those who witnessed a signature, the log, authorities and certificate of one trust domain; pure.

These are the sub-steps of step 3 in authentication.py. They are taken for every certificate, and for a key whose
signature has to be in a log or that brings log entries. A domain is what one trusted_root.json says; it alone decides.

    3.1 the domain's trust root is at hand, with the bytes that the policy pins;
    3.2 there is exactly one log entry; none where the domain has no log and a timestamp may stand in for one;
    3.3 the domain's log holds it: proof, checkpoint and inclusion promise (SET), each that is there; a proof has to be
        there unless the caller takes the log's promise for it;
    3.4 it is about this very signature, payload and key or certificate;
    3.5 it has a trusted time of signing, each time is right, and the certificate was valid then;
    3.6 log and authorities were trusted at that time (`validFor`, both ends);
    3.7 the domain's authority certified the key for signing code, and its CT log saw that (SCT);
    3.8 the certificate names exactly one subject and one OIDC issuer.

For a key 3.7 and 3.8 have no object, nor has the certificate's part of 3.5. A key needs no log unless its signer
says so; entries that are there all the same are checked, by the one root whose log has their ID, or refused. Where the
log promised no time, it can't be told whether the log was still trusted then: it has to be trusted until further
notice. Timestamps beside a key are refused: mvm does not check them (Planned). The log's time counts where it promised
one, and in entries of Rekor's first version only. What is wrong with usages or SCT is told where no other step refuses:
an SCT of another domain's CT log often is what another domain's log entry shows more plainly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from mvmnix.errors import Reason, ReasonCode
from mvmnix.keys import PublicKey
from mvmnix.model import Digest
from mvmnix.provenance.bundle import Bundle, LogEntry, Material, MessageBundle
from mvmnix.provenance.identity import rekor, rekor_body
from mvmnix.provenance.identity.rekor import promised_time
from mvmnix.provenance.identity.rekor_body import TIMELESS, Expected, Recorded
from mvmnix.provenance.identity.trusted_root import TrustedRoot, Window
from mvmnix.strict import MalformedError, show_time

if TYPE_CHECKING:
    from mvmnix.provenance.identity.certificate_facts import CertificateFacts

_AGAIN: Final = "get an unchanged copy of the bundle, or have it signed again"


@dataclass(frozen=True, slots=True)
class DomainEvidence:
    """A signature before one trust domain. `root` is None where its file is not at hand; `file` is for bare signatures.

    `domain` is None for a key that needs no log, `key` for a certificate, `facts` for a key, and without a root.
    `proof` says whether a log has to prove that it holds the signature: then neither its promise nor a timestamp is
    enough.
    """

    what: str
    bundle: Bundle | MessageBundle
    domain: Digest | None
    root: TrustedRoot | None
    key: PublicKey | None = None
    file: Digest | None = None
    facts: "CertificateFacts | None" = None
    proof: bool = True

    @property
    def material(self) -> Material:
        """Who is claimed to have signed, and what witnesses are claimed to have said."""
        return self.bundle.material

    @property
    def entry(self) -> LogEntry | None:
        """The one log entry."""
        return self.material.entry

    @property
    def times(self) -> tuple[datetime, ...]:
        """When a log or a timestamp authority says that it saw the signature."""
        if self.facts is not None:
            return self.facts.times.all
        logged = None if self.entry is None else promised_time(self.entry)
        return () if logged is None else (logged,)

    @property
    def is_without_log(self) -> bool:
        """Whether the domain has no log, a timestamp is there, and the caller takes that for it."""
        no_log = self.root is not None and not self.root.logs
        return no_log and not self.proof and not self.material.entries and bool(self.material.timestamps)

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
    """3.5 At least one time, and none that is wrong."""
    if it.key is not None:
        if it.material.timestamps:
            why = "timestamps beside a plain key's signature are not supported"
            yield it.reason(ReasonCode.SIGNING_TIME, why)
        return
    logged = None if it.entry is None else promised_time(it.entry)
    if logged is None and not it.material.timestamps and len(it.material.entries) <= 1:
        yield it.reason(ReasonCode.SIGNING_TIME, "neither a log nor a timestamp says when it was signed")
    if it.entry is not None and (it.entry.kind, it.entry.version) in TIMELESS and logged is not None:
        why = f"its log entry has a time, which entries of the kind {it.entry.kind} {it.entry.version} have not"
        yield it.reason(ReasonCode.SIGNING_TIME, why)
    if it.facts is None:
        return
    for why in it.facts.times.broken:
        yield it.reason(ReasonCode.SIGNING_TIME, f"a timestamp of it does not hold: {why}")
    for moment in it.times:
        if it.facts.outside(moment):
            why = f"it was signed at {show_time(moment)}, when its certificate was not valid"
            yield it.reason(ReasonCode.SIGNING_TIME, why)


def step_3_6_windows(it: DomainEvidence) -> Iterator[Reason]:
    """3.6 Both ends of each `validFor`, at each time at which the signature was seen."""
    for who, windows, moment in _windows(it):
        if windows and not any(window.holds(moment) for window in windows):
            why = f"it is of {show_time(moment)}, when {who} of the trust root was not trusted"
            yield it.reason(ReasonCode.AUTHORITY_WINDOW, why)
    if it.key is None or it.root is None or it.entry is None or it.times:
        return
    log = it.root.log(it.entry.log_id)
    if log is not None and log.window.end is not None:
        why = f"the log was trusted until {show_time(log.window.end)}, and did not promise when it took it in"
        yield it.reason(ReasonCode.AUTHORITY_WINDOW, why)


def _windows(it: DomainEvidence) -> Iterator[tuple[str, list[Window], datetime]]:
    """Who was relied on at which time, and when they were trusted; several windows where several entries would do."""
    log = None if it.entry is None or it.root is None else it.root.log(it.entry.log_id)
    if log is not None:
        yield from (("the log", [log.window], moment) for moment in it.times)
    if it.facts is None:
        return
    for moment, found in it.facts.paths if it.times else ():
        yield "the certificate authority", [each.authority.window for each in found], moment
        yield "the CT log", [log.window for log in it.facts.ct_logs], moment
    for stamp in it.facts.times.stamps:
        yield "the timestamp authority", [each.window for each in stamp.authorities], stamp.time


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
