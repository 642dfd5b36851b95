"""The only keeper of nonces: a file for each, whole at any time, and forgotten when its plan can't start any more.

A nonce is kept under the digest that the log's START record has of it, in one of 256 directories, so that what a start
looks at doesn't grow with how many are kept.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from mvmnix.digest import Digest, is_digest
from mvmnix.errors import UnreadableError
from mvmnix.formats import strict
from mvmnix.system.private_dirs import Directory

#: How many neighbours of a nonce are looked at, each time one is spent, whether they can be forgotten.
NEIGHBOURS: Final = 16
_LIMIT: Final = 4096
_MACHINE: Final = r"[a-z0-9][a-z0-9-]{0,63}"
_VERSION: Final = 2
_SHARD: Final = re.compile("[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a nonce was spent for; times in whole seconds, UTC.

    `plan` is the digest of the plan's statement, the same for every signer; `until` the end of its window,
    `least` the clock's mark when it was spent. A plan for more than once spends it anew each time, for another machine;
    `before` is the one of the start with it that the log had then as its last: empty for none, None if not known.
    """

    plan: Digest
    machine: str
    time: datetime
    until: datetime
    least: datetime
    before: str | None = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        value = {
            "version": _VERSION,
            "plan": self.plan.hex,
            "machine": self.machine,
            "before": self.before or "",
            "time": strict.show_time(self.time),
            "until": strict.show_time(self.until),
            "least": strict.show_time(self.least),
        }
        return strict.canonical(value)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises MalformedError."""
        return strict.read(strict.parse_json(data), "nonce", lambda record: cls(*_fields(record)))


def _fields(record: strict.Record) -> tuple[Digest, str, datetime, datetime, datetime, str | None]:
    version = record.integer("version", 1, _VERSION)
    times = (record.time("time"), record.time("until"), record.time("least"))
    before = None if version == 1 else record.text("before", f"|{_MACHINE}")
    return record.digest("plan"), record.text("machine", _MACHINE), *times, before


class Nonces:
    """The nonces in a directory. A caller of `forget` or `renew` holds its lock; `spend` is exclusive by itself."""

    def __init__(self, directory: Directory) -> None:
        """The directory stays the caller's to close."""
        self._directory = directory

    def find(self, nonce: Digest) -> Spent | None:
        """What it was spent for; None when it wasn't, or was forgotten.

        Raises MalformedError, UnreadableError for what mvm doesn't write; the nonce is spent then all the same.
        """
        try:
            with self._directory.existing(_shard(nonce)) as shard:
                return Spent.parse(shard.read(nonce.hex, _LIMIT))
        except FileNotFoundError:
            return None

    def has(self, nonce: Digest) -> bool:
        """Whether it is kept, readable or not."""
        try:
            with self._directory.existing(_shard(nonce)) as shard:
                return shard.exists(nonce.hex)
        except FileNotFoundError:
            return False

    def every(self) -> Iterator[Digest]:
        """All that are kept, in order; whether each can be read is not looked at."""
        for name in self._directory.names():
            if _SHARD.fullmatch(name):
                with self._directory.existing(name) as shard:
                    yield from (Digest(each) for each in shard.names() if is_digest(each))

    def spend(self, nonce: Digest, spent: Spent) -> None:
        """Keep it, durably. Raises FileExistsError when it is kept already, OSError when it can't be.

        Whenever this is killed, the nonce is either unspent, or spent and all of it is there.
        """
        with self._directory.child(_shard(nonce)) as shard:
            shard.write_new(nonce.hex, spent.to_bytes())

    def renew(self, nonce: Digest, spent: Spent) -> None:
        """Keep in its place, durably, what it is spent for now. Raises OSError."""
        with self._directory.existing(_shard(nonce)) as shard:
            shard.write_atomic(nonce.hex, spent.to_bytes())

    def forget(self, near: Digest, *, before: datetime, keep: frozenset[Digest]) -> int:
        """Forget some whose plans' windows ended by `before`, of those that follow a nonce; returns how many.

        Nonces are random, so each is looked at sooner or later. What can't be read stays, and is spent.
        """
        try:
            shard = self._directory.existing(_shard(near))
        except FileNotFoundError:
            return 0
        with shard:
            shard.sweep()
            names = [name for name in shard.names() if is_digest(name)]
            after = [*(name for name in names if name > near.hex), *(name for name in names if name < near.hex)]
            gone = [name for name in after[:NEIGHBOURS] if Digest(name) not in keep and _ended(shard, name, before)]
            for name in gone:
                os.unlink(name, dir_fd=shard.fd)
            return len(gone)


def _ended(shard: Directory, name: str, before: datetime) -> bool:
    try:
        return Spent.parse(shard.read(name, _LIMIT)).until <= before
    except (strict.MalformedError, UnreadableError):
        return False


def _shard(nonce: Digest) -> str:
    return nonce.hex[:2]
