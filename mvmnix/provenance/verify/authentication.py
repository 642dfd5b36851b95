"""Establishes who signed a claim, in numbered steps, from bytes alone; the only minter of Authentic and Attested.

A bundle is read (BUNDLE_MALFORMED, UNSIGNED), and then:

1. its bytes are the canonical ones, so that no byte in it is neither signed nor looked at;
2. the signer is one of the trust policy's, by the key that the hint names or by the certified identity; neither that
   key or identity nor the bundle or the statement in it is revoked;
3. the one signature is that signer's, over DSSE's encoding of payload type and payload, and every required witness
   saw it: steps 3.1 to 3.8 of identity/transparency.py, for certificates and for keys whose signatures have to be in a
   log or bring entries or timestamps; in that log by its proof, of which the log's promise is none;
4. that signer has the role which such a claim needs;
5. the payload type is in-toto's.

All of them are reported together. A certified identity counts only once step 3 has passed. The payload may be read only
out of an Authentic. Bundles of other tools are taken through steps 2 to 4 alone and make an Attested, which nothing
that launches takes; for them a log's promise, or in a domain without a log a timestamp, is enough unless the policy
has `require-inclusion`.
"""

import base64
import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, assert_never, final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, StepResult, refuse
from mvmnix.keys import PublicKey, Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.envelope import Bundle, MessageBundle
from mvmnix.provenance.bundle.statement import PAYLOAD_TYPE
from mvmnix.provenance.bundle.verification_material import FINGERPRINT, Inclusion
from mvmnix.provenance.identity import domain_check, revocation_check
from mvmnix.provenance.identity.domain_check import DomainCase, IdentityFindings
from mvmnix.provenance.identity.revocation_check import RevocationSubject, certified_key, identity_words
from mvmnix.provenance.identity.trust import Identity, Signer, Trust
from mvmnix.provenance.verify.step_results import NOT_TAKEN, Findings, Steps
from mvmnix.sealed import Seal, Sealed

_SEAL: Final = Seal()


def _spki(signer: Signer, certificate: bytes) -> Digest:
    return certified_key(certificate) if signer.key is None else signer.fingerprint


@final
@_SEAL.of("authenticate()")
@dataclass(frozen=True, slots=True)
class Authentic(Sealed):
    """Bytes that a known signer signed in a role that the policy gives them; `digest` is the bundle's.

    `time` is when a log or timestamp authority saw the signature, None without either; `identity` subject and OIDC
    issuer as certified, None for a key; `certificate` is in DER, empty for a key.
    `inclusion` says what shows that a log has it, `steps` which steps were taken.
    Made by `authenticate`.
    """

    payload: bytes
    signer: Signer
    digest: Digest
    time: datetime | None = None
    identity: tuple[str, str] | None = None
    inclusion: Inclusion = Inclusion.NONE
    certificate: bytes = b""
    steps: tuple[StepResult, ...] = ()

    @property
    def spki(self) -> Digest:
        """The SHA-256 of the key that made the signature, certified or not."""
        return _spki(self.signer, self.certificate)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a DSSE envelope holds."""

    payload: bytes
    payload_type: str


@final
@_SEAL.of("authenticate_foreign()")
@dataclass(frozen=True, slots=True)
class Attested(Sealed):
    """What a known signer signed with whatever tool: a claim, or the file with this digest itself.

    The other fields are Authentic's; `digest` is that of the bundle's bytes as they came. It is not an Authentic:
    nothing that launches takes it. Sealed: `authenticate_foreign` makes it.
    """

    content: Claim | Digest
    signer: Signer
    digest: Digest
    time: datetime | None = None
    identity: tuple[str, str] | None = None
    inclusion: Inclusion = Inclusion.NONE
    certificate: bytes = b""
    steps: tuple[StepResult, ...] = ()

    @property
    def spki(self) -> Digest:
        """The SHA-256 of the key that made the signature, certified or not."""
        return _spki(self.signer, self.certificate)


@dataclass(frozen=True, slots=True)
class Submission:
    """A bundle that is to be authenticated. `what` names it for people; `blob` is for a bare signature.

    `canonical` is the bundle as mvm writes it, `findings` what its witnesses say; `signer` whom the hint names, not
    proven, or whom a domain certified: None if the policy knows no such signer.
    """

    what: str
    data: bytes
    bundle: Bundle | MessageBundle
    canonical: bytes
    trust: Trust
    role: Role | None
    blob: Blob | None
    findings: IdentityFindings
    signer: Signer | None

    @property
    def identity(self) -> tuple[str, str] | None:
        """Subject and issuer of the certificate, once a domain stands for it; all that do read them alike."""
        return next(iter(self.findings.certified.values()), None)


@dataclass(frozen=True, slots=True)
class ForeignBundle:
    """A bundle of any tool, `data`, that was read and not authenticated; `canonical` is as mvm would write it."""

    data: bytes
    bundle: Bundle | MessageBundle
    canonical: bytes

    @property
    def is_over_file(self) -> bool:
        """Whether it is a bare signature: then whether it holds depends on the file."""
        return isinstance(self.bundle, MessageBundle)


type Step = Callable[[Submission], Findings]
_AGAIN: Final = "get an unchanged copy, or have it signed again"
_ADD: Final = "have it signed by a trusted one, or add this one to trust.toml or `mvm verify`, if you mean to"


def step_1_canonical(it: Submission) -> Iterator[Reason]:
    """1. Every byte is the one that mvm writes for this content."""
    if it.canonical != it.data:
        why = "it is not in canonical form: mvm writes other bytes for this content"
        yield Reason(ReasonCode.BUNDLE_NOT_CANONICAL, it.what, why, "take the bundle as mvm wrote it")


def step_2_signer(it: Submission) -> Iterator[Reason]:
    """2. The policy knows the key or identity, and trusts it still."""
    hint = it.bundle.material.hint
    # a certificate for which no domain stands gives no identity: step 3 says why
    if it.signer is None and not it.findings.reasons:
        certified = "the certified identity" if it.identity is None else identity_words(it.identity)
        who = f"the key with the hint {hint}{_fingerprint(hint)}" if hint else certified
        yield Reason(ReasonCode.SIGNER_UNKNOWN, it.what, f"{who} is not a trusted signer", _ADD)
    suspect = RevocationSubject(it.what, it.data, it.canonical, it.bundle, it.signer, it.identity, it.role)
    yield from revocation_check.reasons(suspect, it.trust.revocations)


def _fingerprint(hint: str) -> str:
    return f" (sha256 {base64.b64decode(hint).hex()})" if re.fullmatch(FINGERPRINT, hint) else ""


def step_3_signature(it: Submission) -> Findings:
    """3. The signer made the signature, over these very bytes, before witnesses. Without a key, step 2 has refused."""
    yield from it.findings.reasons
    if isinstance(it.bundle, MessageBundle) and it.blob is not None and it.bundle.digest not in {None, it.blob.digest}:
        why = f"it is about the file {it.bundle.digest}, not {it.blob}"
        yield Reason(ReasonCode.SUBJECT_MISMATCH, it.what, why, "hand in the file that it is about")
    key = None if it.signer is None else it.signer.key
    if key is None:
        yield NOT_TAKEN
        return
    try:
        _signed(it, key)
    except ValueError as error:
        yield Reason(ReasonCode.SIGNATURE_INVALID, it.what, str(error), _AGAIN)


def _signed(it: Submission, key: PublicKey) -> None:
    match it.bundle:
        case Bundle():
            key.verified(it.bundle.signed_bytes, it.bundle.signature)
        case MessageBundle():
            blob = _needed(it.blob)
            key.verified_digest(_sha256(blob), it.bundle.signature, blob.read)
        case _:
            assert_never(it.bundle)


def step_4_role(it: Submission) -> Findings:
    """4. The signer may make such claims."""
    if it.signer is None:
        yield NOT_TAKEN
    elif it.role is not None and it.role not in it.signer.roles:
        has = ", ".join(sorted(it.signer.roles))
        why = f"it needs a {it.role}'s signature, and {it.signer.name!r} is {has}"
        yield Reason(ReasonCode.SIGNER_ROLE, it.what, why, f"have it signed with a {it.role} key")


def step_5_payload_type(it: Submission) -> Iterator[Reason]:
    """5. The signature is about an in-toto statement."""
    match it.bundle:
        case Bundle(payload_type=kind) if kind != PAYLOAD_TYPE:
            why = f"its payload is {kind!r}, not {PAYLOAD_TYPE!r}"
            yield Reason(ReasonCode.BUNDLE_MALFORMED, it.what, why, "sign an in-toto statement")
        case _:
            pass


STEPS: tuple[Step, ...] = (step_1_canonical, step_2_signer, step_3_signature, step_4_role, step_5_payload_type)
FOREIGN_STEPS: tuple[Step, ...] = (step_2_signer, step_3_signature, step_4_role)


def authenticate(data: bytes, *, trust: Trust, role: Role, what: str) -> Authentic:
    """Take a bundle through all steps. Raises RefusedError with every reason that was found."""
    with only_refusals(what):
        bundle, canonical = envelope.read(data)
        it = _submitted(data, bundle, canonical, what=what, trust=trust, role=role, blob=None, proof=True)
        signer, steps = _passed(it, STEPS)
        seen, certificate = it.findings, bundle.material.certificate
        by = (signer, Digest.of(data), seen.time, it.identity, seen.inclusion, certificate, steps)
        return Authentic(bundle.payload, *by, seal=_SEAL)


def read_foreign(data: bytes, what: str, stamped: bytes = b"") -> ForeignBundle:
    """Read a bundle of any tool, for `authenticate_foreign`. Raises RefusedError.

    `stamped` is the envelope as it came, where its timestamps are over that.
    """
    with only_refusals(what):
        bundle, canonical = envelope.read_foreign(data)
        if stamped and isinstance(bundle, Bundle):
            bundle = replace(bundle, stamped=stamped)
        return ForeignBundle(data, bundle, canonical)


def authenticate_foreign(
    read: ForeignBundle, *, trust: Trust, what: str, role: Role | None = None, blob: Blob | None = None
) -> Attested:
    """Take a bundle of any tool through steps 2 to 4; step 4 only where a role is needed.

    `blob` is the file that a bare signature (`messageSignature`) has to be about; without one such a bundle is refused.
    What the payload of an envelope means, its type included, is for the caller. Raises RefusedError with every reason.
    """
    with only_refusals(what):
        data, bundle, proof = read.data, read.bundle, trust.require_inclusion
        it = _submitted(data, bundle, read.canonical, what=what, trust=trust, role=role, blob=blob, proof=proof)
        signer, steps = _passed(it, FOREIGN_STEPS)
        content = Claim(bundle.payload, bundle.payload_type) if isinstance(bundle, Bundle) else _sha256(_needed(blob))
        seen, certificate = it.findings, bundle.material.certificate
        by = (signer, Digest.of(data), seen.time, it.identity, seen.inclusion, certificate, steps)
        return Attested(content, *by, seal=_SEAL)


def _submitted(
    data: bytes,
    bundle: Bundle | MessageBundle,
    canonical: bytes,
    *,
    what: str,
    trust: Trust,
    role: Role | None,
    blob: Blob | None,
    proof: bool,
) -> Submission:
    file = None if blob is None else blob.digest
    findings = domain_check.check_identity(DomainCase(what, bundle, trust, file, proof))
    signer = _signer(bundle.material.hint, findings, trust, role)
    return Submission(what, data, bundle, canonical, trust, role, blob, findings, signer)


def _signer(hint: str, findings: IdentityFindings, trust: Trust, role: Role | None) -> Signer | None:
    """An identity may be several signers' of the policy: then it is one with the role that is needed, if any has it."""
    if hint:
        return trust.by_hint(hint)
    found = [one for one in trust.signers if isinstance(one.credential, Identity) and findings.names(one.credential)]
    return next(iter([one for one in found if role in one.roles] or found), None)


def _passed(it: Submission, steps: tuple[Step, ...]) -> tuple[Signer, tuple[StepResult, ...]]:
    taken = Steps("signature")
    taken.take_each(steps, it)
    taken.require()
    if it.signer is None:
        raise ValueError("no step refuses, and there is no signer")
    return it.signer, taken.results


def _needed(blob: Blob | None) -> Blob:
    if blob is None:
        raise ValueError("it is a bare signature, and the file that it is over was not given")
    return blob


def _sha256(blob: Blob) -> Digest:
    if blob.digest is None:
        raise ValueError("it is a bare signature, and the file's SHA-256 is not known")
    return blob.digest


class Quorum:
    """Who agrees, for a threshold: each signer once, and each key under whatever names it signed; each build once."""

    def __init__(self) -> None:
        self._signers: set[Digest] = set()
        self._keys: dict[Digest, str] = {}
        self._builds: set[str] = set()

    def __len__(self) -> int:
        return len(self._signers)

    def count(self, it: Authentic | Attested, builds: AbstractSet[str] = frozenset()) -> str:
        """Count it, for a build that has these names; returns why it doesn't count, "" where it does."""
        name, key = repr(it.signer.name), it.spki
        if builds & self._builds:
            return "it is of a build that is counted already"
        if it.signer.fingerprint in self._signers:
            return f"{name} is counted already"
        if key in self._keys:
            return f"{name} and {self._keys[key]} signed with the same key, {key}"
        self._signers.add(it.signer.fingerprint)
        self._keys[key] = name
        self._builds |= builds
        return ""


@contextmanager
def only_refusals(what: str) -> Iterator[None]:
    """Turn what a verification did not expect into a refusal: libraries leak exceptions that they do not list."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        why = f"its verification ended with {type(error).__name__}: {error}"
        raise refuse(ReasonCode.UNEXPECTED, what, why, "report this as a bug, with the file if you can") from error
