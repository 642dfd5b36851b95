"""What a look at the machine finds: one record, made by checks and shown by `mvm doctor`."""

from dataclasses import dataclass
from enum import StrEnum


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
