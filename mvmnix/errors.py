"""What can go wrong, said so that the reader knows what to do next; the one place that fixes exit codes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, override

from mvmnix.plural import counted

#: So many reasons of a refusal are told, and so many lines and characters of each part of one: what they quote, a
#: stranger may have written.
MOST_REASONS: Final = 128
REASON_LINES: Final = 12
LONGEST: Final = 1024
#: So many lines and characters of any other failure are told, its hint included: a child says more than anyone reads.
MOST_LINES: Final = 24
MOST_CHARACTERS: Final = 2400
_HINT_LINES: Final = 3
_HINT_CHARACTERS: Final = 500


class ReasonCode(StrEnum):
    """Why something was refused, for machines; each code has a row in the tests that provokes it."""

    # where the flake and its sources come from
    FLAKE_DIRTY = "flake-dirty"
    FLAKE_UNLOCKED = "flake-unlocked"
    FLAKE_UNSUPPORTED = "flake-unsupported"
    LOCK_MALFORMED = "lock-malformed"
    LOCK_STALE = "lock-stale"
    LOCK_NODE_UNSUPPORTED = "lock-node-unsupported"
    LOCK_SUBSTITUTED = "lock-substituted"
    SOURCE_MISMATCH = "source-mismatch"
    SOURCE_UNKNOWN = "source-unknown"
    SOURCE_UNUSABLE = "source-unusable"
    FETCH_NOT_ALLOWED = "fetch-not-allowed"
    FETCH_LIMIT = "fetch-limit"
    CACHE_MALFORMED = "cache-malformed"
    CACHE_SIGNATURE = "cache-signature"
    ARGUMENT_UNSAFE = "argument-unsafe"
    OCI_UNPINNED = "oci-unpinned"
    OCI_MALFORMED = "oci-malformed"
    OCI_UNSUPPORTED = "oci-unsupported"
    # what came out of the builder
    OUTPUT_MALFORMED = "output-malformed"
    ARCHIVE_MALFORMED = "archive-malformed"
    MANIFEST_MALFORMED = "manifest-malformed"
    ARTIFACT_MISMATCH = "artifact-mismatch"
    VERITY_MISMATCH = "verity-mismatch"
    NOT_REPRODUCIBLE = "not-reproducible"
    # who signed it
    BUNDLE_MALFORMED = "bundle-malformed"
    BUNDLE_NOT_CANONICAL = "bundle-not-canonical"
    UNSIGNED = "unsigned"
    SIGNATURE_INVALID = "signature-invalid"
    SIGNER_UNKNOWN = "signer-unknown"
    SIGNER_ROLE = "signer-role"
    SIGNER_REVOKED = "signer-revoked"
    BUNDLE_REVOKED = "bundle-revoked"
    ROOT_MALFORMED = "root-malformed"
    LOG_ENTRIES = "log-entries"
    LOG_INCLUSION = "log-inclusion"
    LOG_ENTRY_MISMATCH = "log-entry-mismatch"
    SIGNING_TIME = "signing-time"
    AUTHORITY_WINDOW = "authority-window"
    CERTIFICATE_INVALID = "certificate-invalid"
    IDENTITY_MALFORMED = "identity-malformed"
    STATEMENT_MALFORMED = "statement-malformed"
    PREDICATE_TYPE = "predicate-type"
    BUILD_TYPE = "build-type"
    EXTERNAL_PARAMETERS = "external-parameters"
    BUILDER_NOT_ADMITTED = "builder-not-admitted"
    BUILDER_MISMATCH = "builder-mismatch"
    VERIFIER_NOT_ADMITTED = "verifier-not-admitted"
    RESOURCE_MISMATCH = "resource-mismatch"
    VERIFICATION_FAILED = "verification-failed"
    LEVEL_INSUFFICIENT = "level-insufficient"
    SUMMARY_STALE = "summary-stale"
    SUMMARY_INCOMPLETE = "summary-incomplete"
    SUBJECT_MISMATCH = "subject-mismatch"
    ATTESTATION_MISSING = "attestation-missing"
    DEPENDENCY_MISMATCH = "dependency-mismatch"
    SOURCE_NOT_ADMITTED = "source-not-admitted"
    LOCK_MISMATCH = "lock-mismatch"
    BUILD_TIME = "build-time"
    INPUT_NOT_ADMITTED = "input-not-admitted"
    CACHE_NOT_ADMITTED = "cache-not-admitted"
    PARTS_MISMATCH = "parts-mismatch"
    IMPORT_FROM_DERIVATION = "import-from-derivation"
    SBOM_MISMATCH = "sbom-mismatch"
    PROVENANCE_STALE = "provenance-stale"
    IMAGE_REVOKED = "image-revoked"
    REBUILDS_MISSING = "rebuilds-missing"
    # the trust policy
    POLICY_MISSING = "policy-missing"
    POLICY_MALFORMED = "policy-malformed"
    POLICY_EMPTY = "policy-empty"
    POLICY_LOCATION = "policy-location"
    POLICY_WIDENS = "policy-widens"
    POLICY_MISMATCH = "policy-mismatch"
    POLICY_EXPIRED = "policy-expired"
    POLICY_ROLLBACK = "policy-rollback"
    ROOT_MISMATCH = "root-mismatch"
    # the plan
    PLAN_MALFORMED = "plan-malformed"
    PLAN_EXPIRED = "plan-expired"
    PLAN_NOT_YET_VALID = "plan-not-yet-valid"
    PLAN_MISMATCH = "plan-mismatch"
    PLAN_STALE = "plan-stale"
    PLAN_THRESHOLD = "plan-threshold"
    PLAN_REVOKED = "plan-revoked"
    PROVENANCE_MISMATCH = "provenance-mismatch"
    COMMAND_LINE = "kernel-command-line"
    ACCELERATOR_UNAVAILABLE = "accelerator-unavailable"
    ISOLATION_UNAVAILABLE = "isolation-unavailable"
    HARDWARE_REQUIRED = "hardware-required"
    TEMPLATE_FORBIDDEN = "template-forbidden"
    BACKEND_UNAVAILABLE = "backend-unavailable"
    LIMIT_UNAVAILABLE = "limit-unavailable"
    VERB_NOT_GRANTED = "verb-not-granted"
    REPLAY = "replay"
    COPY_REFUSED = "copy-refused"
    PLAINTEXT_CREDENTIAL = "plaintext-credential"
    SECRET_UNAVAILABLE = "secret-unavailable"  # noqa: S105 - the name of a refusal
    SHARE_FORBIDDEN = "share-forbidden"
    SHARE_UNAVAILABLE = "share-unavailable"
    NETWORK_FORBIDDEN = "network-forbidden"
    NETWORK_UNAVAILABLE = "network-unavailable"
    # a snapshot
    SNAPSHOT_DAMAGED = "snapshot-damaged"
    SNAPSHOT_MISMATCH = "snapshot-mismatch"
    SNAPSHOT_ROLLBACK = "snapshot-rollback"
    SNAPSHOT_POLICY = "snapshot-policy"
    SNAPSHOT_HOST = "snapshot-host"
    SNAPSHOT_FORBIDDEN = "snapshot-forbidden"
    SNAPSHOT_SECRETS = "snapshot-secrets"
    # the host's own state
    CONFIG_MALFORMED = "config-malformed"
    KEY_PERMISSIONS = "key-permissions"
    KEY_MALFORMED = "key-malformed"
    KEY_PASSWORD = "key-password"  # noqa: S105 - the name of a refusal
    STATE_PERMISSIONS = "state-permissions"
    STATE_LOCATION = "state-location"
    NAMESPACE_UNUSABLE = "namespace-unusable"
    LOG_MISMATCH = "log-mismatch"
    RECEIPT_MISMATCH = "receipt-mismatch"
    ANCHOR_UNAVAILABLE = "anchor-unavailable"
    STATE_MISMATCH = "state-mismatch"
    CREATION_MISMATCH = "creation-mismatch"
    CLOCK_WENT_BACK = "clock-went-back"
    CALLER_REFUSED = "caller-refused"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a refusal: `code` for machines, `what` was looked at, `why` it fails, `hint` for what to do."""

    code: ReasonCode
    what: str
    why: str
    hint: str

    @override
    def __str__(self) -> str:
        return f"{self.what}: refused [{self.code}]: {self.why}. Next: {self.hint}"

    @property
    def record(self) -> dict[str, str]:
        """The same for machines, as every JSON answer spells it."""
        return {"code": self.code, "what": self.what, "why": self.why, "next": self.hint}


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one numbered step of a verification found: no reasons if it passed, or if it could not be taken.

    `verifier` says in whose list the number and the name stand: `signature` (provenance/verify/authentication.py),
    `provenance` (provenance/verify/verify.py), `plan` (launch/gate/verify.py), `snapshot` (launch/gate/snapshot.py)
    and `summary` (provenance/verify/summary.py). `within` are the steps of another list that this one consists of.
    """

    verifier: str
    number: int
    name: str
    reasons: tuple[Reason, ...] = ()
    within: tuple["StepResult", ...] = ()
    taken: bool = True

    @property
    def record(self) -> dict[str, object]:
        """The same for machines; `codes` are those of its reasons, which an answer has in full beside it.

        A step that could not be taken, since another one found nothing to look at, has `"taken": false`.
        """
        said = {
            "verifier": self.verifier,
            "step": self.number,
            "name": self.name,
            "passed": self.taken and not self.reasons,
        }
        codes = list(dict.fromkeys(reason.code for reason in self.reasons))
        within = [result.record for result in self.within]
        said |= {} if self.taken else {"taken": False}
        return said | ({"codes": codes} if codes else {}) | ({"within": within} if within else {})


class MvmnixError(Exception):
    """mvm itself failed. `message` says what and why, `hint` what to do next; `clipped` bounds both.

    Where a child failed, `command` is its command in one line, unless the message has it, and `log` the file in which
    all of it stands; each is "" where there is none.
    """

    exit_code = 125
    command = ""
    log = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = clipped(
            message, lines=MOST_LINES + 1 - _HINT_LINES, characters=MOST_CHARACTERS - _HINT_CHARACTERS
        )
        self.hint = hint

    @property
    def hint(self) -> str:
        """What to do next; "" where nothing is known."""
        return self._hint

    @hint.setter
    def hint(self, text: str) -> None:
        self._hint = clipped(text, lines=_HINT_LINES, characters=_HINT_CHARACTERS - 10)

    @override
    def __str__(self) -> str:
        told = f"{self.message}. Next: {self.hint}" if self.hint else self.message
        return f"{told}. Log: {self.log}" if self.log else told


def clipped(text: str, *, lines: int, characters: int) -> str:
    """The same, unless it has too many lines or characters: then its beginning and its end, which often has the cause.

    >>> clipped("abcdefghijklm", lines=1, characters=9)
    'abc … klm'
    """
    parts = text.split("\n")
    if lines == 1:
        text = " ".join(filter(None, map(str.strip, parts)))
    elif len(parts) > lines:
        head = max(1, (lines - 1) // 3)
        tail = len(parts) - (lines - 1 - head)
        text = "\n".join((*parts[:head], f"… {tail - head} lines …", *parts[tail:]))
    if len(text) <= characters:
        return text
    head = characters // 3
    return f"{text[:head]} … {text[head + 3 - characters :]}"


class UsageError(MvmnixError):
    """The caller asked for something that does not exist or cannot be meant."""

    exit_code = 2


class UnreadableError(MvmnixError):
    """Something that was to be verified could not be read at all."""

    exit_code = 2


class GuestTimeoutError(MvmnixError):
    """The guest's command did not end within the plan's time."""

    exit_code = 124


def bounded(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """The same, unless there are too many or they are too long: then the first ones, one of each further code, a count.

    A stranger's input can have as many mistakes as it has bytes.
    """
    shown = list(reasons[:MOST_REASONS])
    left = reasons[MOST_REASONS:]
    if left:
        codes = {reason.code for reason in shown}
        further = {reason.code: reason for reason in reversed(left) if reason.code not in codes}
        shown += further.values()
        why = f"and {counted(len(left) - len(further), 'reason')} more"
        shown.append(Reason(reasons[0].code, reasons[0].what, why, reasons[0].hint))
    return tuple(map(_shortened, shown))


def _shortened(it: Reason) -> Reason:
    """A hint may repeat paths that are to be pasted."""
    what, why = (clipped(text, lines=REASON_LINES, characters=LONGEST) for text in (it.what, it.why))
    return replace(it, what=what, why=why, hint=clipped(it.hint, lines=REASON_LINES, characters=4 * LONGEST))


class RefusedError(MvmnixError):
    """Verification or policy said no; carries every reason that was found, not the first only, as `bounded` tells them.

    `steps` are the numbered steps that were taken, those that passed too. Raises ValueError without a reason.
    """

    exit_code = 126

    def __init__(self, *reasons: Reason, steps: tuple[StepResult, ...] = ()) -> None:
        if not reasons:
            raise ValueError("a refusal needs a reason")
        reasons = bounded(reasons)
        told = "\n".join(str(reason) for reason in reasons)
        super().__init__(told, hint=reasons[0].hint)
        self.message = told  # each reason is bounded by itself, and their number
        self.reasons = reasons
        self.steps = steps

    @override
    def __str__(self) -> str:
        return self.message

    @property
    def codes(self) -> tuple[ReasonCode, ...]:
        """The codes of all reasons, in the order in which they were found."""
        return tuple(reason.code for reason in self.reasons)


def join_errors(errors: Sequence[MvmnixError]) -> MvmnixError | None:
    """Return one refusal for the reasons of all that are refusals, else the first error; None where there is none."""
    reasons = dict.fromkeys(reason for each in errors if isinstance(each, RefusedError) for reason in each.reasons)
    return RefusedError(*reasons) if reasons else next(iter(errors), None)


def refuse(code: ReasonCode, what: str, why: str, hint: str) -> RefusedError:
    """A refusal with one reason, ready to be raised."""
    return RefusedError(Reason(code, what, why, hint))
