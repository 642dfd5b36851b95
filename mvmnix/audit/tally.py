"""Counts refusals that a guest provokes, so that however many there are, the log gets a few records; pure.

>>> tally = Tally(limit=1)
>>> for port in (80, 81, 80, 82): tally.count(f"port-{port}")
>>> tally.counts
{('port-80',): 2, ('others',): 2}
"""

from collections.abc import Iterable, Mapping

from mvmnix.formats.strict import MAX_INTEGER


class Tally:
    """How often something was refused to one machine, by the reasons of a record."""

    def __init__(self, *, limit: int = 16, prefix: str = "", always: Iterable[str] = ()) -> None:
        """`limit` is how many sets of reasons are told apart; `prefix` stands before the first reason of each.

        Those whose first reason is one of `always` are told apart beside that: it takes no names from a guest.
        """
        self._limit, self._prefix, self._always = limit, prefix, frozenset(always)
        self._limited = 0
        self._counts: dict[tuple[str, ...], int] = {}

    def count(self, reason: str, *more: str) -> None:
        """Count one refusal."""
        reasons = (self._prefix + reason, *more)
        if reasons not in self._counts and reason not in self._always:
            if self._limited >= self._limit:
                reasons = (f"{self._prefix}others",)
            else:
                self._limited += 1
        self._counts[reasons] = min(self._counts.get(reasons, 0) + 1, MAX_INTEGER)

    @property
    def counts(self) -> Mapping[tuple[str, ...], int]:
        """How often, the first refused first; at most the limit and one, and those of `always`."""
        return dict(self._counts)
