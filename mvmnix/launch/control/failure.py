"""An error on its way from one process of mvm's to another, in bounded JSON; pure."""

from dataclasses import dataclass
from typing import Final, Self

from mvmnix.errors import GuestTimeoutError, MvmnixError, Reason, ReasonCode, RefusedError, UsageError
from mvmnix.formats.strict import Record

#: Characters of message and hint, each of up to twelve bytes: together they fit a packet (control/codec.py).
_LONGEST_TEXT: Final = 8192
_LONGEST_HINT: Final = 2048
_LONGEST_CHILD: Final = 1024
#: What a caller is told whose machine has ended.
_ENDED: Final = "the machine has ended"
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
                return cls(error.exit_code, "", "", error.reasons, *_child(error))
            case MvmnixError():
                told = (error.message[:_LONGEST_TEXT], error.hint[:_LONGEST_HINT])
                return cls(error.exit_code, *told, (), *_child(error))
            case _:
                message = f"the machine's supervisor failed: {error!r}"
                return cls(MvmnixError.exit_code, message[:_LONGEST_TEXT], "", ())

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


def _child(error: MvmnixError) -> tuple[str, str]:
    return error.command[:_LONGEST_CHILD], error.log[:_LONGEST_CHILD]


def parse_reason(record: Record) -> Reason:
    """Read one reason of a refusal. Raises ValueError."""
    code = record.choice("code", ReasonCode)
    return Reason(code, record.text("what"), record.text("why"), record.text("hint"))
