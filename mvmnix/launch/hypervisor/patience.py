"""The rule by which a boot counts as hung: by progress and work done, not by seconds alone; reads no clock."""

from dataclasses import dataclass, field
from typing import Final

#: On a loaded host a guest gets little CPU for its seconds: so many times its budget may pass on the wall.
_WALL_FACTOR: Final = 2.0
#: A guest that chatters for ever makes no progress either: so many times its budget is all there is.
_TOTAL_FACTOR: Final = 5.0


@dataclass(slots=True)
class Patience:
    """How long a boot may still take. `budget` in seconds; `began` on the clock that `exhausted` is told.

    It ends when, since the last sign of life, the guest has used up `budget` seconds of CPU (it spins) or twice as many
    have passed on the wall (it sleeps, or the host is busy); and in any case after five times as many.

    >>> patience = Patience(10.0, began=0.0)
    >>> patience.exhausted(now=9.0, cpu=9.0, progress=0), patience.exhausted(now=15.0, cpu=3.0, progress=0)
    (False, False)
    >>> patience.exhausted(now=16.0, cpu=11.0, progress=0)
    True
    """

    budget: float
    began: float
    _progress: int = field(default=0, init=False)
    _at: float = field(init=False)
    _cpu: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._at = self.began

    def exhausted(self, *, now: float, cpu: float, progress: int) -> bool:
        """Whether it ends now. `cpu`: the guest's so far, in seconds; `progress`: grows with its signs of life."""
        if progress != self._progress:
            self._progress, self._at, self._cpu = progress, now, cpu
        spins = cpu - self._cpu >= self.budget
        sleeps = now - self._at >= _WALL_FACTOR * self.budget
        return spins or sleeps or now - self.began >= _TOTAL_FACTOR * self.budget
