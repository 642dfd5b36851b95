"""Says from when to when an authority is trusted, as `validFor` of a trusted root does."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mvmnix.formats import strict


@dataclass(frozen=True, slots=True)
class Window:
    """A time range: `start` inclusive, `end` or for ever."""

    start: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    end: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """`TimeRange` of protobuf-specs."""
        start = {"start": strict.show_time(self.start)}
        return start if self.end is None else start | {"end": strict.show_time(self.end)}


ALWAYS = Window()
