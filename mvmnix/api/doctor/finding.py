"""What a look at the machine finds: one record, made by checks and shown by `mvm doctor`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from mvmnix.errors import MvmnixError, RefusedError


class Health(StrEnum):
    """How a finding is meant."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `commands` are lines for a shell, to be pasted as they are."""

    what: str
    health: Health
    said: str
    next: str = ""
    commands: tuple[str, ...] = ()

    @classmethod
    def failed(cls, what: str, error: MvmnixError | OSError) -> Self:
        """What a failure says, and its hint once."""
        match error:
            case RefusedError():
                said = (f"[{reason.code}] {reason.what}: {reason.why}" for reason in error.reasons)
                return cls(what, Health.BAD, "; ".join(said), error.hint)
            case MvmnixError():
                return cls(what, Health.BAD, error.message, error.hint)
            case OSError():
                return cls(what, Health.BAD, f"{error.filename or 'the system'}: {error.strerror}")
