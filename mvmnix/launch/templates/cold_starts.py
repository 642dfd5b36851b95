"""Counts the boots of machines that found no template, by the template's key: after the second one is made unasked.

A file for each key, in the directory of templates. What it says holds for one boot of the host and one state of the
trust policy; it is the user's own, and worth no more than that: whether a template may be made is for the gate.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError, UnreadableError
from mvmnix.formats import strict
from mvmnix.formats.escaping import escape
from mvmnix.system.private_dirs import Directory

#: Boots for want of a template after which one is made.
DUE: Final = 2
#: Keys that are counted at a time; where there are more, those that come are not.
MOST_COUNTED: Final = 256
_SUFFIX: Final = ".cold"
_NAME: Final = re.compile(r"[0-9a-f]{64}\.cold")
_LOCK: Final = "lock"
#: Bytes of a file, and characters of the reason in it.
_LIMIT: Final = 4096
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class _Count:
    """`starts` of one key, at most DUE; `obstacle` is why no template is tried again, "" where none was tried."""

    boot: str
    policy: Digest
    starts: int = 0
    obstacle: str = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return strict.canonical(
            {"boot": self.boot, "policy": self.policy.hex, "starts": self.starts, "obstacle": self.obstacle}
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises MalformedError."""
        return strict.read(
            strict.parse_json(data),
            "count",
            lambda record: cls(
                record.text("boot", limit=64),
                record.digest("policy"),
                record.integer("starts", 0, DUE),
                record.text("obstacle", limit=_LIMIT),
            ),
        )


class ColdStarts:
    """The counts of a user, for this `boot` of the host and this state of the policy."""

    def __init__(self, directory: Directory, boot: str, policy: Digest) -> None:
        """The directory stays the caller's to close."""
        self._directory = directory
        self._none = _Count(boot, policy)

    def note(self, key: Digest) -> bool:
        """Count one more; return whether a template is due: at the second, unless one was tried. Raises OSError."""
        with self._directory.lock(_LOCK):
            found = self._find(key)
            if found is None:
                if not self._has_room():
                    return False
                found = self._none
            counted = replace(found, starts=min(found.starts + 1, DUE))
            if counted != found:
                self._directory.write_atomic(key.hex + _SUFFIX, counted.to_bytes())
            return counted.starts == DUE and not counted.obstacle

    def give_up(self, key: Digest, obstacle: str) -> None:
        """Have no template of this key tried until the policy or the boot is another one. Raises OSError."""
        with self._directory.lock(_LOCK):
            told = escape(" ".join(obstacle.split()))[:_LONGEST] or "it failed"
            given_up = replace(self._find(key) or self._none, obstacle=told)
            self._directory.write_atomic(key.hex + _SUFFIX, given_up.to_bytes())

    def forget(self, key: Digest) -> None:
        """Begin anew with a key: its template is there."""
        self._directory.remove(key.hex + _SUFFIX)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why templates were not made, and are not tried again: one text for each key."""
        counts = (self._find(key) for key in self._keys())
        return tuple(count.obstacle for count in counts if count is not None and count.obstacle)

    def sweep(self) -> None:
        """Remove what was counted under another policy or at another boot, or can't be read."""
        for key in self._keys():
            if self._find(key) is None:
                self.forget(key)

    def _has_room(self) -> bool:
        if len(tuple(self._keys())) >= MOST_COUNTED:
            self.sweep()
        return len(tuple(self._keys())) < MOST_COUNTED

    def _find(self, key: Digest) -> _Count | None:
        """The count of a key; None where there is none of this boot and policy."""
        with suppress(FileNotFoundError, strict.MalformedError, UnreadableError, RefusedError):
            found = _Count.parse(self._directory.read(key.hex + _SUFFIX, _LIMIT))
            if (found.boot, found.policy) == (self._none.boot, self._none.policy):
                return found
        return None

    def _keys(self) -> Iterator[Digest]:
        for name in self._directory.names():
            if _NAME.fullmatch(name):
                yield Digest(name.removesuffix(_SUFFIX))
