"""Counts refusals that a guest provokes, by rule, so that however many there are, the log gets a few records; pure.

>>> tally = Tally(limit=1)
>>> for rule in ("port-80", "port-81", "port-80", "port-82"): tally.count(rule)
>>> tally.counts
{'port-80': 2, 'others': 2}
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from mvmnix.audit.record import Record, RecordKind
from mvmnix.formats.strict import MAX_INTEGER
from mvmnix.model import Digest

#: Stands for all rules beyond the limit.
OTHERS: Final = "others"
#: How many rules of one machine are told apart.
LIMIT: Final = 16


class Tally:
    """How often each rule refused something to one machine. A rule's name is what a record may have as a reason."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def count(self, rule: str) -> None:
        """This rule refused something once more."""
        name = rule if rule in self._counts or len(self._counts) < self._limit else OTHERS
        self._counts[name] = min(self._counts.get(name, 0) + 1, MAX_INTEGER)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often, by rule, the first refused first; at most the limit and one."""
        return dict(self._counts)

    def records(self, *, machine: str, plan: Digest, policy: Digest, time: datetime) -> Iterator[Record]:
        """One record for each rule, with the count."""
        for rule, count in self._counts.items():
            yield Record(
                kind=RecordKind.REFUSAL,
                time=time,
                machine=machine,
                plan=plan,
                policy=policy,
                reasons=(rule,),
                count=count,
            )
