"""The errors of the SDK: one tree, whose members are also those of Python that callers catch already."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, override

from mvmnix.errors import GuestTimeoutError, MvmnixError, ReasonCode, RefusedError, UnreadableError, UsageError
from mvmnix.launch.control.codec import VersionError
from mvmnix.launch.control.connection import ConnectionLostError
from mvmnix.sdk.hints import for_python

if TYPE_CHECKING:
    from mvmnix.sdk.results import Result


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason for an error: `code` for programs, `what` was looked at, `why` it fails, `hint` for what to do."""

    code: str
    what: str
    why: str
    hint: str


class Error(MvmnixError):
    """Any failure of the SDK. `reasons` has each one that was found, at least one."""

    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "", reasons: Iterable[Cause] = ()) -> None:
        message = for_python(message)
        super().__init__(message, hint=for_python(hint))
        self.reasons: tuple[Cause, ...] = tuple(reasons) or (Cause(self.code, "mvmnix", message, self.hint),)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        state = dict(vars(self))
        if isinstance(self, OSError):
            state |= {name: getattr(self, name) for name in ("errno", "strerror", "filename")}
        return _restored, (type(self), self.args, state)


class InvalidArgument(Error, ValueError):
    """An argument is invalid."""

    code = "invalid-argument"


class SetupMissing(Error):
    """This user has no keys and no trust policy yet; `mvmnix.initialize()` makes them."""

    code = "setup-missing"


class TimedOut(Error, TimeoutError):
    """Something took longer than its time; `stdout` and `stderr` are what a command printed until then."""

    code = "timed-out"

    def __init__(self, message: str, *, hint: str = "", stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.stdout = stdout
        self.stderr = stderr


class Refused(Error):
    """Verification or policy said no; each reason has the code of docs/reference/reason-codes.md."""

    code = "refused"

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of all reasons, in the order in which they were found."""
        return tuple(reason.code for reason in self.reasons)


class NotVerified(Refused):
    """What was to be trusted doesn't verify: a signature, provenance, a plan, an image's bytes, the audit log."""


class PolicyRefused(Refused):
    """The trust policy, or a rule that holds for each plan, forbids what was asked for."""


class NotGranted(Refused, PermissionError):
    """The plan doesn't grant the verb."""


class NotFound(Error, LookupError):
    """There is no such machine, image or plan."""

    code = "not-found"


class NotRunning(Error):
    """The machine has ended, or was not started."""

    code = "not-running"


class Unreachable(Error, ConnectionError):
    """The machine's process, or a launcher, can't be talked to."""

    code = "unreachable"


class OutcomeUnknown(Error):
    """The machine or its connection ended before the answer: what was asked for may have been done, or not."""

    code = "outcome-unknown"


class GuestFailed(Error):
    """The guest could not do what was asked of it."""

    code = "guest-failed"


class FileFailed(GuestFailed, OSError):
    """A file of the guest can't be worked with; `errno` says why, `filename` is its path there."""

    code = "file-failed"

    def __init__(self, number: int, message: str, path: str) -> None:
        super().__init__(message)
        self.errno = number
        self.strerror = message
        self.filename = path


class FileNotFound(FileFailed, FileNotFoundError):
    """There is no such file in the guest, or no such program."""

    code = "file-not-found"


class FileExists(FileFailed, FileExistsError):
    """There is such a file in the guest already."""

    code = "file-exists"


class FileForbidden(FileFailed, PermissionError):
    """The plan's user may not do that to the file."""

    code = "file-forbidden"


class FileIsDirectory(FileFailed, IsADirectoryError):
    """A file was expected, and the path leads to a directory."""

    code = "file-is-directory"


class FileNotDirectory(FileFailed, NotADirectoryError):
    """A directory was expected, and the path leads to something else."""

    code = "file-not-directory"


class OutputLimitExceeded(Error):
    """A command printed more than is kept, and was ended; `stdout` and `stderr` are the beginning."""

    code = "output-limit-exceeded"

    def __init__(self, message: str, *, stdout: bytes, stderr: bytes, hint: str = "") -> None:
        own = "have it print less, raise output_limit=, or read it by box.stream or box.popen"
        super().__init__(message, hint=hint or own)
        self.stdout = stdout
        self.stderr = stderr


class CommandFailed(Error):
    """A command that was to succeed ended otherwise; `result` is what it left."""

    code = "command-failed"

    def __init__(self, message: str, result: "Result[bytes] | Result[str]") -> None:
        super().__init__(message, hint="leave out check=True to have the result instead")
        self.result = result


def _restored(kind: type[Error], args: tuple[object, ...], state: Mapping[str, object]) -> Error:
    """Return an error as it was pickled."""
    made = kind.__new__(kind, *args)
    made.args = args
    for name, value in state.items():
        setattr(made, name, value)
    return made


#: Codes of what is forbidden, however well it verifies.
_FORBIDDEN: Final = frozenset(
    {
        ReasonCode.PLAINTEXT_CREDENTIAL,
        ReasonCode.SHARE_FORBIDDEN,
        ReasonCode.NETWORK_FORBIDDEN,
        ReasonCode.COPY_REFUSED,
        ReasonCode.CALLER_REFUSED,
        ReasonCode.FETCH_NOT_ALLOWED,
        ReasonCode.IMPORT_FROM_DERIVATION,
        ReasonCode.STATE_LOCATION,
        ReasonCode.HARDWARE_REQUIRED,
        ReasonCode.TEMPLATE_FORBIDDEN,
        ReasonCode.SNAPSHOT_FORBIDDEN,
        *(code for code in ReasonCode if code.startswith("policy-")),
    }
)
#: Codes of what is not there, on this host or at this moment: neither forbidden nor forged.
_ABSENT: Final = frozenset(
    {*(code for code in ReasonCode if code.endswith("-unavailable")), ReasonCode.CONFIG_MALFORMED}
)
_FILES: Final = {
    errno.ENOENT: FileNotFound,
    errno.EEXIST: FileExists,
    errno.EACCES: FileForbidden,
    errno.EPERM: FileForbidden,
    errno.EISDIR: FileIsDirectory,
    errno.ENOTDIR: FileNotDirectory,
}


def file_error(number: int, path: str, why: str) -> FileFailed:
    """Return the error of a file of the guest, by its errno."""
    return _FILES.get(number, FileFailed)(number, f"{path}: {why}", path)


def translate(error: MvmnixError) -> Error:
    """Return the SDK's error for one of mvm's; the same for one of the SDK's."""
    match error:
        case Error():
            return error
        case RefusedError():
            return _refused(error)
        case GuestTimeoutError():
            made: Error = TimedOut(error.message, hint=error.hint)
        case ConnectionLostError() | VersionError():
            made = Unreachable(error.message, hint=error.hint)
        case UsageError() | UnreadableError():
            made = InvalidArgument(error.message, hint=error.hint)
        case _:
            made = Error(error.message, hint=error.hint)
    made.command, made.log = error.command, error.log
    return made


def _refused(error: RefusedError) -> Refused:
    codes = frozenset(error.codes)
    if ReasonCode.VERB_NOT_GRANTED in codes:
        kind: type[Refused] = NotGranted
    elif codes <= _ABSENT:
        kind = Refused
    else:
        kind = PolicyRefused if codes <= _FORBIDDEN | _ABSENT else NotVerified
    reasons = [Cause(each.code, each.what, for_python(each.why), for_python(each.hint)) for each in error.reasons]
    lines = [f"{each.what}: refused [{each.code}]: {each.why}" for each in reasons]
    return kind("\n".join(lines), hint=reasons[0].hint, reasons=reasons)
