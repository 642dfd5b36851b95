"""Shares the dialer's threads among names, so that DNS servers that don't answer hold none that others need; pure.

1. A name is looked up once at a time. Asks for it that come meanwhile get the same answer.
2. Names below one domain have so many threads at a time, those of one rule some more, and all of them fewer than there
   are. The domain is a rule's own name; else what is one label longer than the rule's suffix, and of `*` two labels.
3. What is beyond waits for one of its share to end, without a thread.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from mvmnix.network.dialer_messages import Ask
from mvmnix.network.sockets import MAX_CONNECTIONS

#: Names that are looked up at a time: of all, of one rule, and of one domain.
OF_ALL, OF_RULE, OF_DOMAIN = 112, 32, 8
_MOST: Final = (OF_ALL, OF_RULE, OF_DOMAIN)
#: Labels of a domain of the rule `*`.
_LABELS: Final = 2
type _Share = tuple[str, ...]


class Turn(Enum):
    """When a name is looked up: by the thread that asks, by another one later, or not, since too many wait."""

    NOW = auto()
    LATER = auto()
    NEVER = auto()


class Lookups:
    """Which asks are done, and which wait. Its methods may be called from any thread."""

    def __init__(self, host_of: Callable[[str], str], *, shares_answers: bool) -> None:
        """`host_of` returns the host of a rule, by its id; without `shares_answers` each ask is done by itself."""
        self._host_of, self._shares_answers = host_of, shares_answers
        self._lock = threading.Lock()
        #: Threads of each share.
        self._used = Counter[_Share]()
        #: By name, the asks that get the answer of the one that is looked up, or waits to be.
        self._same: dict[str, list[Ask]] = {}
        self._waiting = deque[Ask]()
        self._count = 0

    def begin(self, ask: Ask) -> Turn:
        """Take a turn for an ask, or have it wait."""
        with self._lock:
            same = self._same.get(ask.host)
            has_room = self._has_room(ask)
            if same is None and has_room:
                self._used.update(self._shares(ask))
            elif self._count >= MAX_CONNECTIONS:
                return Turn.NEVER
            else:
                self._count += 1
                (self._waiting if same is None else same).append(ask)
            if self._shares_answers:
                self._same.setdefault(ask.host, [])
            return Turn.NOW if same is None and has_room else Turn.LATER

    def end(self, ask: Ask) -> tuple[list[Ask], Ask | None]:
        """Give a turn back. Return the asks that get the same answer, and the ask that has its turn now, if any."""
        with self._lock:
            same = self._same.pop(ask.host, [])
            self._count -= len(same)
            self._used.subtract(self._shares(ask))
            self._used += Counter()  # without those that are 0
            following = next((it for it in self._waiting if self._has_room(it)), None)
            if following is not None:
                self._waiting.remove(following)
                self._count -= 1
                self._used.update(self._shares(following))
            return same, following

    def _has_room(self, ask: Ask) -> bool:
        return all(self._used[it] < most for it, most in zip(self._shares(ask), _MOST, strict=True))

    def _shares(self, ask: Ask) -> tuple[_Share, ...]:
        """Return the quotas that a look-up counts against: of all, of its rule, and of its domain (2)."""
        host, domain = self._host_of(ask.rule), ask.host
        if host.startswith("*"):
            domain = ".".join(ask.host.split(".")[-max(_LABELS, host.count(".") + 1) :])
        return (), (ask.rule,), (ask.rule, domain)
