"""What a detached supervisor tells its caller, once, over a socket: its machine is ready, or why it isn't."""

import socket
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.errors import GuestTimeoutError, MvmnixError, Reason, ReasonCode, RefusedError, UsageError
from mvmnix.formats.strict import Record, canonical, parse_json, read

#: Bytes. The news come from a fork of ours; the bound is for a reader that never trusts a length.
_LIMIT: Final = 1 << 23
#: Characters of message and hint, each of up to twelve bytes: together they fit a packet (control/messages.py).
_LONGEST_TEXT: Final = 8192
_LONGEST_HINT: Final = 2048
_LONGEST_CHILD: Final = 1024
_KINDS: Final = {kind.exit_code: kind for kind in (UsageError, GuestTimeoutError)}


@dataclass(frozen=True, slots=True)
class Failure:
    """The machine didn't start: an error of the exit code's kind, with its reasons when it was a refusal.

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
        kind = _KINDS.get(self.exit_code, MvmnixError)
        error = RefusedError(*self.reasons) if self.reasons else kind(self.message, hint=self.hint)
        error.command, error.log = self.command, self.log
        return error

    def to_value(self) -> dict[str, object]:
        """As JSON."""
        reasons = [{"code": it.code, "what": it.what, "why": it.why, "hint": it.hint} for it in self.reasons]
        told = {"exitCode": self.exit_code, "message": self.message, "hint": self.hint, "reasons": reasons}
        child = {name: text for name, text in (("command", self.command), ("log", self.log)) if text}
        return told | child


def notify_start(connection: socket.socket, word: str | Failure) -> bool:
    """Send the id of a machine that runs, or why none does, and close the connection.

    Returns whether the caller was still there. What is said later is not sent.
    """
    if connection.fileno() < 0:
        return False
    with connection:
        try:
            connection.sendall(canonical(word.to_value() if isinstance(word, Failure) else {"machine": word}))
        except OSError:
            return False
        return True


def read_start_notification(connection: socket.socket) -> str:
    """Wait for the news: the machine's id. Raises what the supervisor raised, MvmnixError if it said nothing."""
    data = bytearray()
    while len(data) <= _LIMIT and (chunk := connection.recv(65536)):
        data += chunk
    if not data:
        hint = "look at `dmesg` for a process that was killed, and at the machine's directory"
        raise MvmnixError("the machine's supervisor ended without a word", hint=hint)
    word = read(parse_json(bytes(data)), "news", _parse)
    if isinstance(word, Failure):
        raise word.to_error()
    return word


def _parse(record: Record) -> str | Failure:
    return record.text("machine", r"[0-9a-f]{12}") if record.has("machine") else parse_failure(record)


def parse_failure(record: Record) -> Failure:
    """A failure as `Failure.to_value` wrote it. Raises ValueError."""
    return Failure(
        record.integer("exitCode", 1, 255),
        record.text("message", limit=_LONGEST_TEXT),
        record.text("hint", limit=_LONGEST_HINT),
        record.each("reasons", _reason),
        *(record.text(name, limit=_LONGEST_CHILD) if record.has(name) else "" for name in ("command", "log")),
    )


def _child(error: MvmnixError) -> tuple[str, str]:
    return error.command[:_LONGEST_CHILD], error.log[:_LONGEST_CHILD]


def _reason(record: Record) -> Reason:
    code = record.choice("code", ReasonCode)
    return Reason(code, record.text("what"), record.text("why"), record.text("hint"))
