"""An error on its way from one process of mvm's to another, in bounded JSON; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.errors import LONGEST, GuestTimeoutError, MvmnixError, Reason, ReasonCode, RefusedError, UsageError
from mvmnix.formats.strict import Record
from mvmnix.launch.control.codec import clean_text

#: Characters of message and hint, and of command and log of a child, each of up to twelve bytes: together they fit a
#: packet (control/codec.py).
_LONGEST_TEXT: Final = 6144
_LONGEST_HINT: Final = 2048
_LONGEST_CHILD: Final = 1024
#: What a caller is told whose machine has ended.
_ENDED: Final = "the machine has ended"
#: The hint of an error that nothing foresaw.
_UNEXPECTED: Final = "unless memory, disk space or mvm's own directories are missing (mvm doctor), report this as a bug"
#: Characters of all reasons together, which come in place of a message and a hint; what a reason takes beside its three
#: texts counts as so many.
_LONGEST_REASONS: Final = 8192
_REASON: Final = 16
_KINDS: Final = {kind.exit_code: kind for kind in (UsageError, GuestTimeoutError)}


class MachineEndedError(MvmnixError):
    """The machine ended before it answered."""

    def __init__(self) -> None:
        super().__init__(_ENDED, hint="mvm ps --all says how")


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the exit code's kind, with its reasons when it was a refusal.

    `command` and `log` are those of a child that failed, as `MvmnixError` has them.
    """

    exit_code: int
    message: str
    hint: str
    reasons: tuple[Reason, ...]
    command: str = ""
    log: str = ""

    @classmethod
    def of(cls, error: Exception) -> Self:
        """What is told of an error."""
        match error:
            case RefusedError():  # its message says the reasons, and its hint is the first one's
                return cls(error.exit_code, "", "", tuple(_fitting(error.reasons)), *_child(error))
            case MvmnixError():
                texts = (clean_text(error.message, _LONGEST_TEXT), clean_text(error.hint, _LONGEST_HINT))
                return cls(error.exit_code, *texts, (), *_child(error))
            case _:
                message = f"the machine's supervisor failed: {error!r}"
                return cls(MvmnixError.exit_code, clean_text(message, _LONGEST_TEXT), _UNEXPECTED, ())

    def to_error(self) -> MvmnixError:
        """The error again, in the caller's process."""
        if self.message == _ENDED:
            return MachineEndedError()
        kind = _KINDS.get(self.exit_code, MvmnixError)
        error = RefusedError(*self.reasons) if self.reasons else kind(self.message, hint=self.hint)
        error.command, error.log = self.command, self.log
        error.exit_code = self.exit_code
        return error

    def to_value(self) -> dict[str, object]:
        """As JSON."""
        reasons = [{"code": each.code, "what": each.what, "why": each.why, "hint": each.hint} for each in self.reasons]
        told = {"exitCode": self.exit_code, "message": self.message, "hint": self.hint, "reasons": reasons}
        child = {name: text for name, text in (("command", self.command), ("log", self.log)) if text}
        return told | child


def parse_failure(record: Record) -> Failure:
    """A failure as `Failure.to_value` wrote it. Raises ValueError."""
    return Failure(
        record.integer("exitCode", 1, 255),
        record.text("message", limit=_LONGEST_TEXT),
        record.text("hint", limit=_LONGEST_HINT),
        record.each("reasons", parse_reason),
        *(record.text(name, limit=_LONGEST_CHILD) if record.has(name) else "" for name in ("command", "log")),
    )


def _fitting(reasons: Sequence[Reason]) -> Iterator[Reason]:
    """Yield the first reasons, as many as fit, each cut where it has to be."""
    left = _LONGEST_REASONS
    for reason in reasons:
        what, why, hint = (clean_text(text, LONGEST) for text in (reason.what, reason.why, reason.hint))
        left -= len(what) + len(why) + len(hint) + _REASON
        if left < 0:
            return
        yield Reason(reason.code, what, why, hint)


def _child(error: MvmnixError) -> tuple[str, str]:
    return clean_text(error.command, _LONGEST_CHILD), clean_text(error.log, _LONGEST_CHILD)


def parse_reason(record: Record) -> Reason:
    """Read one reason of a refusal. Raises ValueError."""
    code = record.choice("code", ReasonCode)
    return Reason(code, record.text("what"), record.text("why"), record.text("hint"))
