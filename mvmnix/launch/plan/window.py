"""When a plan may be used, and how often; pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Use(StrEnum):
    """How often a plan starts a machine within its window: once, or at every request.

    Every plan says it. A version that didn't know the word would take a plan for once as one for always, and a plan
    without it could mean either; so both are refused.
    """

    ONCE = "once"
    WITHIN_WINDOW = "within-window"


@dataclass(frozen=True, slots=True)
class Window:
    """When a plan may be used: from the first moment, up to but without the second; whole seconds, UTC."""

    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if self.not_before >= self.not_after:
            raise ValueError("the plan's validity ends before it begins")
