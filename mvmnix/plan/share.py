"""Which directories of the host a guest is given, as a plan says it: paths, access and consent; pure.

docs/reference/shares.md describes them. What a path names is looked at when the machine starts (opening.py and
risk_checks.py in launch/shares).
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final, Self

from mvmnix.formats import strict
from mvmnix.plan.backend import Backend

#: How many a plan may name.
MOST_SHARES: Final = 8
_LONGEST: Final = 1024
#: Two slashes at its beginning would be a path of their own to PurePosixPath, and lie in no directory.
_PATH: Final = rf"/(?!/)[^\x00-\x1f\x7f]{{0,{_LONGEST - 1}}}"
#: What the agent makes itself in the guest, and no plan puts anything over.
_TAKEN: Final = ("/proc", "/sys", "/dev", "/run")
_ACKNOWLEDGE: Final = "acknowledge="


class Access(StrEnum):
    """What the guest may do with the directory."""

    READ_ONLY = "read-only"
    READ_WRITE = "read-write"


class Danger(StrEnum):
    """What makes a directory one that is shared only where the plan says that it is meant, by this very word."""

    ROOT = "root-directory"
    HOME = "home-directory"
    SYSTEM = "system-directory"
    SOCKET = "daemon-socket"
    STATE = "mvm-state"
    CREDENTIALS = "credentials"
    CODE = "user-code"
    MOUNTS = "mounts"


class ShareKind(StrEnum):
    """How a guest gets at a directory of the host: a file system that is served, or an image of one on a disk."""

    VIRTIOFS = "virtiofs"
    EROFS = "erofs"


@dataclass(frozen=True, slots=True)
class Share:
    """A directory of the host, by its absolute path there and its place in the guest. Raises ValueError.

    `follow` is for one that is read only: whether changes that the host makes later show; otherwise the guest sees it
    as it was when the machine started. `acknowledged` are the dangers that the plan's author has seen, sorted.
    """

    host: str
    guest: str
    access: Access = Access.READ_ONLY
    follow: bool = False
    acknowledged: tuple[Danger, ...] = ()

    def __post_init__(self) -> None:
        _check_path(self.host)
        check_place(self.guest)
        if self.follow and self.access is Access.READ_WRITE:
            raise ValueError(f"{self.guest}: what may be written always shows what the host changes: leave out follow")
        if list(self.acknowledged) != sorted(set(self.acknowledged)):
            raise ValueError(f"{self.guest}: what is acknowledged is not sorted, or is listed twice")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a user typed: SRC:DST, then perhaps a colon and words with commas in between. Raises ValueError.

        Words: `ro` (the default) or `rw`; `follow`; `acknowledge=DANGER`. SRC is absolute already.

        >>> Share.parse("/srv/data:/data:ro,follow").follow
        True
        """
        host, _, rest = text.partition(":")
        guest, _, words = rest.partition(":")
        if not host or not guest:
            raise ValueError(f"not a share: {text[:80]!r}")
        access, follow, acknowledged = Access.READ_ONLY, False, set[Danger]()
        said = [word for word in words.split(",") if word]
        if len(set(said)) != len(said) or _ACCESS.keys() <= set(said):
            raise ValueError(f"a word is listed twice, or both ro and rw are: {words[:80]!r}")
        for word in said:
            danger = word.removeprefix(_ACKNOWLEDGE)
            if word in _ACCESS:
                access = _ACCESS[word]
            elif word == "follow":
                follow = True
            elif danger != word and danger in set(Danger):
                acknowledged.add(Danger(danger))
            else:
                raise ValueError(f"{word[:80]!r} is none of ro, rw, follow, acknowledge={'|'.join(Danger)}")
        return cls(host, guest, access, follow, tuple(sorted(acknowledged)))

    @property
    def writable(self) -> bool:
        """Whether the guest may change it."""
        return self.access is Access.READ_WRITE

    @property
    def typed(self) -> str:
        """As it is typed."""
        words = ["rw" if self.writable else "ro", *(["follow"] if self.follow else [])]
        return ":".join((self.host, self.guest, ",".join((*words, *(_ACKNOWLEDGE + it for it in self.acknowledged)))))


def check_place(path: str) -> None:
    """Raises ValueError for a path at which nothing is mounted in a guest."""
    _check_path(path)
    if path == "/" or any(is_within(path, taken) for taken in _TAKEN):
        raise ValueError(f"no place in a guest for what is mounted: {path}")


def _check_path(path: str) -> None:
    if not re.fullmatch(_PATH, path) or str(PurePosixPath(path)) != path or ".." in path.split("/"):
        raise ValueError(f"not an absolute path of at most {_LONGEST} plain characters: {path[:80]!r}")


_ACCESS: Final = {"ro": Access.READ_ONLY, "rw": Access.READ_WRITE}


def is_within(path: str, directory: str) -> bool:
    """Whether a path is that of a directory, or leads to something in it, by their text.

    >>> is_within("/etc/ssl", "/etc"), is_within("/etcetera", "/etc"), is_within("/etc", "/")
    (True, False, True)
    """
    inner, outer = posixpath.normpath(path), posixpath.normpath(directory)  # far quicker than a PurePosixPath
    return inner == outer or inner.startswith(f"{outer.rstrip('/')}/")


def to_json(shares: Sequence[Share]) -> list[Mapping[str, object]]:
    """As they stand in a plan's predicate; the audit log has the digest of this."""
    return [_value(it) for it in shares]


def from_record(record: strict.Record) -> tuple[Share, ...]:
    """The field `shares` of a plan's predicate; empty where it is missing, and never written when empty."""
    if not record.has("shares"):
        return ()
    found = record.each("shares", _read, MOST_SHARES)
    if not found:
        raise ValueError("no shares, where some were announced")
    return found


def check(shares: Sequence[Share], backend: Backend) -> None:
    """Raises ValueError for too many, where one would lie over another, and for a backend that shares nothing."""
    if shares and backend is not Backend.QEMU:
        raise ValueError(f"with the backend {backend} no directory can be shared in this version")
    if len(shares) > MOST_SHARES:
        raise ValueError(f"more than {MOST_SHARES} shares")
    places = sorted(PurePosixPath(it.guest) for it in shares)
    for one, other in pairwise(places):
        if other.is_relative_to(one):
            raise ValueError(f"one share lies within another in the guest: {one} and {other}")


def acknowledged(shares: Sequence[Share]) -> tuple[str, ...]:
    """What the audit log says of consent: the dangers that a plan acknowledges for any of its shares."""
    return tuple(sorted({f"acknowledged-{danger}" for it in shares for danger in it.acknowledged}))


def _value(it: Share) -> Mapping[str, object]:
    value: dict[str, object] = {"host": it.host, "guest": it.guest, "access": it.access}
    if it.follow:
        value["follow"] = True
    if it.acknowledged:
        value["acknowledge"] = list(it.acknowledged)
    return value


def _read(record: strict.Record) -> Share:
    follow = record.flag("follow") if record.has("follow") else False
    acknowledged = record.texts("acknowledge", "|".join(Danger), len(Danger)) if record.has("acknowledge") else ()
    return Share(
        host=record.text("host", _PATH),
        guest=record.text("guest", _PATH),
        access=record.choice("access", Access),
        follow=follow,
        acknowledged=tuple(map(Danger, acknowledged)),
    )
