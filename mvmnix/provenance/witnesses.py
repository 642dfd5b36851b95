"""Hears those who witnessed a signature, the log, authorities and certificate of one trust domain; pure.

These are the sub-steps of step 3 in authenticate.py. They are taken for every certificate, and for a key whose
signature has to be in a log or that brings log entries. A domain is what one trusted_root.json says; it alone decides.

    3.1 the domain's trust root is at hand, with the bytes that the policy pins;
    3.2 there is exactly one log entry;
    3.3 the domain's log holds it: proof, checkpoint and inclusion promise (SET);
    3.4 it is about this very signature, payload and key or certificate;
    3.5 somebody trusted saw when it was signed, everybody who says when is right, and the certificate was valid then;
    3.6 log and authorities were trusted at that time (`validFor`, both ends);
    3.7 the domain's authority certified the key for signing code, and its CT log saw that (SCT);
    3.8 the certificate names exactly one subject and one OIDC issuer.

For a certificate the `sigstore` library decides 3.3 to 3.5 and 3.7 in one go (provenance/sigstore.py); if it refuses,
these steps find out over which, and what they can't explain is a `certificate-invalid`. For a key they decide
themselves: 3.7 and 3.8 have no object then, nor has the certificate's part of 3.5. A key needs no log unless its signer
says so; entries that are there all the same are checked, by the one root whose log has their ID, or refused. Where the
log promised no time, nobody can say that it was still trusted then: it has to be trusted until further notice.
Timestamps beside a key are refused: nobody here checks them (Planned).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mvmnix.errors import Reason, ReasonCode
from mvmnix.keys import PublicKey
from mvmnix.model import Digest
from mvmnix.provenance import certificates, rekor, rekor_body
from mvmnix.provenance.envelope import Bundle, MessageBundle
from mvmnix.provenance.material import Entry, Material
from mvmnix.provenance.rekor_body import Recorded
from mvmnix.provenance.trusted_root import TrustedRoot
from mvmnix.strict import MalformedError, show_time

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from mvmnix.provenance.sigstore import Certified, UncertifiedError

_AGAIN: Final = "get an unchanged copy of the bundle, or have it signed again"


@dataclass(frozen=True, slots=True)
class Hearing:
    """A signature before one trust domain. `root` is None where its file is not at hand; `file` is for bare signatures.

    `key` is None for a certificate. For each source of time, the library `certified` somebody or has `errors`; a key
    has neither.
    """

    what: str
    bundle: Bundle | MessageBundle
    domain: Digest
    root: TrustedRoot | None
    key: PublicKey | None = None
    file: Digest | None = None
    certified: "tuple[Certified, ...]" = ()
    errors: "tuple[UncertifiedError, ...]" = ()

    @property
    def material(self) -> Material:
        """Who is claimed to have signed, and what witnesses are claimed to have said."""
        return self.bundle.material

    @property
    def entry(self) -> Entry | None:
        """The one log entry."""
        return self.material.entries[0] if len(self.material.entries) == 1 else None

    @property
    def settled(self) -> bool:
        """Whether the library has looked at everything and stands for it."""
        return bool(self.certified) and not self.errors

    def reason(self, code: ReasonCode, why: str) -> Reason:
        """A reason, with what to do about most of them."""
        return Reason(code, self.what, why, _AGAIN)


type Step = Callable[[Hearing], Iterator[Reason]]


def promised(entry: Entry | None) -> datetime | None:
    """The time that a log promises, if it does."""
    if entry is None or entry.promise is None or not entry.integrated:
        return None
    return datetime.fromtimestamp(entry.integrated, UTC) if entry.integrated < 2**36 else None


def step_3_1_root(it: Hearing) -> Iterator[Reason]:
    """3.1 The pinned file is there."""
    if it.root is None:
        hint = "put it into roots/ beside trust.toml, or pin the root that is there"
        why = f"the trust root {it.domain}, which has to vouch for it, is not at hand"
        yield Reason(ReasonCode.ROOT_MISMATCH, it.what, why, hint)


def step_3_2_one_entry(it: Hearing) -> Iterator[Reason]:
    """3.2 Neither none nor several, of which the wrong one could be looked at."""
    if it.entry is None:
        yield it.reason(ReasonCode.LOG_ENTRIES, f"it has {len(it.material.entries)} log entries, not exactly one")


def step_3_3_log(it: Hearing) -> Iterator[Reason]:
    """3.3 What no signature covers is looked at in any case, the rest unless the library did."""
    if it.entry is None or it.root is None:
        return
    found = list(rekor.incoherences(it.entry, it.root))
    log = it.root.log(it.entry.log_id)
    if log is not None and not it.settled:
        found += rekor.unproven(it.entry, log)
    for why in found:
        yield it.reason(ReasonCode.LOG_INCLUSION, why)


def step_3_4_body(it: Hearing) -> Iterator[Reason]:
    """3.4 The body names signature, payload or file, and key or certificate."""
    if it.entry is None or it.settled:
        return
    try:
        differences = expected(it).differences(rekor_body.read(it.entry))
    except MalformedError as error:
        for problem in error.problems:
            yield it.reason(ReasonCode.LOG_ENTRY_MISMATCH, f"the body of its log entry can't be read: {problem}")
        return
    if differences:
        yield it.reason(ReasonCode.LOG_ENTRY_MISMATCH, f"its log entry is about another {', '.join(differences)}")


def expected(it: Hearing) -> Recorded:
    """What the log's entry has to be about."""
    verifier = it.material.certificate if it.key is None else it.key.spki
    match it.bundle:
        case Bundle():
            payload, signed = Digest.of(it.bundle.payload), Digest.of(it.bundle.signed_bytes)
            return Recorded(it.bundle.signature, verifier, payload, signed)
        case MessageBundle():
            return Recorded(it.bundle.signature, verifier, None, it.file)


def step_3_5_time(it: Hearing) -> Iterator[Reason]:
    """3.5 At least one time, and none that is wrong."""
    if it.key is not None:
        if it.material.timestamps:
            why = "timestamps beside a plain key's signature are not supported"
            yield it.reason(ReasonCode.SIGNING_TIME, why)
        return
    if promised(it.entry) is None and not it.material.timestamps and len(it.material.entries) <= 1:
        yield it.reason(ReasonCode.SIGNING_TIME, "neither a log nor a timestamp says when it was signed")
    certificate = _loaded(it.material.certificate) if it.errors else None
    for error in it.errors:
        if error.doubt == "timestamp":
            yield it.reason(ReasonCode.SIGNING_TIME, f"a timestamp of it does not hold: {error.why}")
        elif error.when is not None and certificate is not None and not _valid(certificate, error.when):
            why = f"it was signed at {show_time(error.when)}, when its certificate was not valid"
            yield it.reason(ReasonCode.SIGNING_TIME, why)


def step_3_6_windows(it: Hearing) -> Iterator[Reason]:
    """3.6 Both ends of each `validFor`; for a certificate the library was given only what was trusted then."""
    for error in it.errors:
        if error.doubt == "window":
            yield it.reason(ReasonCode.AUTHORITY_WINDOW, error.why)
    log = None if it.entry is None or it.root is None else it.root.log(it.entry.log_id)
    moment = promised(it.entry)
    if it.key is None or log is None:
        return
    if moment is None and log.window.end is not None:
        why = f"the log was trusted until {show_time(log.window.end)}, and did not promise when it took it in"
        yield it.reason(ReasonCode.AUTHORITY_WINDOW, why)
    elif moment is not None and not log.window.holds(moment):
        why = f"the log was not trusted at {show_time(moment)}, when it took it in"
        yield it.reason(ReasonCode.AUTHORITY_WINDOW, why)


def step_3_7_certificate(it: Hearing) -> Iterator[Reason]:
    """3.7 The library stands for it; what none of the other steps explains is the certificate's fault."""
    if it.key is not None or it.settled or it.root is None:
        return
    why = [error.why for error in it.errors if error.doubt == "other"]
    certificate = _loaded(it.material.certificate)
    if certificate is None or not _issued(certificate, it.root):
        yield it.reason(ReasonCode.CERTIFICATE_INVALID, f"no authority of the trust root {it.domain} certified its key")
    elif why and forged(it) is None and not any(True for step in _OTHERS for _ in step(it)):
        yield it.reason(ReasonCode.CERTIFICATE_INVALID, why[0])


def step_3_8_names(it: Hearing) -> Iterator[Reason]:
    """3.8 One subject, one issuer."""
    for error in it.errors:
        if error.doubt == "names":
            yield it.reason(ReasonCode.IDENTITY_MALFORMED, error.why)


_OTHERS: Final[tuple[Step, ...]] = (
    step_3_2_one_entry,
    step_3_3_log,
    step_3_4_body,
    step_3_5_time,
    step_3_6_windows,
    step_3_8_names,
)
STEPS: tuple[Step, ...] = (step_3_1_root, *_OTHERS[:5], step_3_7_certificate, step_3_8_names)


def forged(it: Hearing) -> str | None:
    """Why the signature is not the certified key's, of a certificate for which the library does not stand."""
    certificate = None if it.settled else _loaded(it.material.certificate)
    if certificate is None:
        return None
    try:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        match it.bundle:
            case Bundle():
                PublicKey(spki).verified(it.bundle.signed_bytes, it.bundle.signature)
            case MessageBundle() if it.file is not None:
                PublicKey(spki).verified_digest(it.file, it.bundle.signature)
            case _:
                return "it is a bare signature, and nobody said over which file"
    except (ValueError, UnsupportedAlgorithm) as error:
        return str(error)
    return None


def _loaded(der: bytes) -> "Certificate | None":
    try:
        return certificates.from_der(der)
    except ValueError:
        return None


def _valid(certificate: "Certificate", moment: datetime) -> bool:
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


def _issued(certificate: "Certificate", root: TrustedRoot) -> bool:
    """Whether an authority of the root, at whatever time, signed the certificate."""
    for der in {der for authority in root.authorities for der in authority.certificates}:
        try:
            certificate.verify_directly_issued_by(certificates.from_der(der))
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False
