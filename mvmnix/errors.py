"""What can go wrong, said so that the reader knows what to do next; the one place that fixes exit codes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import override


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
    STATEMENT_MALFORMED = "statement-malformed"
    PREDICATE_TYPE = "predicate-type"
    BUILD_TYPE = "build-type"
    EXTERNAL_PARAMETERS = "external-parameters"
    BUILDER_NOT_ADMITTED = "builder-not-admitted"
    SUBJECT_MISMATCH = "subject-mismatch"
    DEPENDENCY_MISMATCH = "dependency-mismatch"
    SOURCE_NOT_ADMITTED = "source-not-admitted"
    LOCK_MISMATCH = "lock-mismatch"
    BUILD_TIME = "build-time"
    INPUT_NOT_ADMITTED = "input-not-admitted"
    CACHE_NOT_ADMITTED = "cache-not-admitted"
    PARTS_MISMATCH = "parts-mismatch"
    IMPORT_FROM_DERIVATION = "import-from-derivation"
    SBOM_MISMATCH = "sbom-mismatch"
    # the trust policy
    POLICY_MISSING = "policy-missing"
    POLICY_MALFORMED = "policy-malformed"
    POLICY_EMPTY = "policy-empty"
    POLICY_LOCATION = "policy-location"
    POLICY_WIDENS = "policy-widens"
    POLICY_MISMATCH = "policy-mismatch"
    # the plan
    PLAN_MALFORMED = "plan-malformed"
    PLAN_EXPIRED = "plan-expired"
    PLAN_NOT_YET_VALID = "plan-not-yet-valid"
    PLAN_MISMATCH = "plan-mismatch"
    PROVENANCE_MISMATCH = "provenance-mismatch"
    COMMAND_LINE = "kernel-command-line"
    ACCELERATOR_UNAVAILABLE = "accelerator-unavailable"
    ISOLATION_UNAVAILABLE = "isolation-unavailable"
    VERB_NOT_GRANTED = "verb-not-granted"
    # the host's own state
    CONFIG_MALFORMED = "config-malformed"
    KEY_PERMISSIONS = "key-permissions"
    KEY_MALFORMED = "key-malformed"
    STATE_PERMISSIONS = "state-permissions"
    LOG_MISMATCH = "log-mismatch"
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


class MvmnixError(Exception):
    """mvm itself failed. `message` says what and why, `hint` what to do next."""

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @override
    def __str__(self) -> str:
        return f"{self.message}. Next: {self.hint}" if self.hint else self.message


class UsageError(MvmnixError):
    """The caller asked for something that does not exist or cannot be meant."""

    exit_code = 2


class UnreadableError(MvmnixError):
    """Something that was to be verified could not be read at all."""

    exit_code = 2


class GuestTimeoutError(MvmnixError):
    """The guest's command did not end within the plan's time."""

    exit_code = 124


class GuestCommandNotFoundError(MvmnixError):
    """The guest has no such command."""

    exit_code = 127


class RefusedError(MvmnixError):
    """Verification or policy said no; carries every reason that was found, not the first only."""

    exit_code = 126

    def __init__(self, *reasons: Reason) -> None:
        if not reasons:
            raise ValueError("a refusal needs a reason")
        super().__init__("\n".join(str(reason) for reason in reasons), hint=reasons[0].hint)
        self.reasons = reasons

    @override
    def __str__(self) -> str:
        return self.message

    @property
    def codes(self) -> tuple[ReasonCode, ...]:
        """The codes of all reasons, in the order in which they were found."""
        return tuple(reason.code for reason in self.reasons)


def refuse(code: ReasonCode, what: str, why: str, hint: str) -> RefusedError:
    """A refusal with one reason, ready to be raised."""
    return RefusedError(Reason(code, what, why, hint))
