"""Finds what makes a directory of this host one that is shared only by an explicit word in the plan, or not at all.

A directory is judged by its path, which holds no symbolic link by then; by what it is, whatever path it is reached by
(device and inode of it and of the directories above it, and its place in its file system); and by what lies in it:
listening sockets, mounts and what is mounted by the kernel's word, credentials by name and inode, down to some depth.
What it is judged by is listed in sensitive_paths.py.

1. A writable share neither is, holds nor lies in what mvm itself is run from, whatever the plan says.
2. Each danger that is found is one that the plan acknowledges; code that is run later is one of a writable share alone.
"""

import os
import pwd
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final, Self

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.launch.shares.opening import is_directory, walk
from mvmnix.launch.shares.sensitive_paths import (
    CODE,
    CREDENTIALS,
    SYSTEM,
    SYSTEM_CODE,
    find_name,
    follow_links,
    list_code_places,
    list_credential_places,
    list_program_directories,
    list_program_trees,
)
from mvmnix.plan.share import Danger, Share, is_within
from mvmnix.system import procfs

#: What each word stands for, to be shown.
DANGER_MEANINGS: Final[Mapping[Danger, str]] = {
    Danger.ROOT: "the root of the host's file system",
    Danger.HOME: "a user's home, or what holds one",
    Danger.SYSTEM: "a directory of the system, what lies in one, or what holds one",
    Danger.SOCKET: "what holds a socket on which a daemon listens",
    Danger.STATE: "mvm's own state, keys, policy or cache",
    Danger.CREDENTIALS: "a directory or file that holds credentials, or what holds one",
    Danger.CODE: "writable: programs and settings that are run on this host later, and what holds them",
    Danger.MOUNTS: "what has other file systems mounted in it",
}
#: Uids of people (login.defs(5), UID_MIN); root has a home too.
_FIRST_PERSON: Final = 1000
_LAST_PERSON: Final = 60_000
#: Names by what they are in lower case, and what is said of a place that has one.
_NAMES: Final = {
    Danger.CREDENTIALS: {name.casefold(): name for name in CREDENTIALS},
    Danger.CODE: {name.casefold(): name for name in CODE},
}
_MEANS: Final = {
    Danger.CREDENTIALS: "which holds credentials",
    Danger.CODE: "which this host runs later, or which names what it runs",
}
#: So deep, and so many entries, are looked through for credentials and code.
_DEPTH: Final = 3
_ENTRIES: Final = 20_000
_LISTENING: Final = 1 << 16  # __SO_ACCEPTCON in /proc/net/unix
#: A socket's line there: its flags, and the path that it was bound to. A name is its owner's choice, lines in it too.
_BOUND: Final = re.compile(r"\S+: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) [0-9A-F]{4} [0-9A-F]{2} +[0-9]+ (/.*)")
#: proc_pid_fdinfo(5): the number of the mount that an open file belongs to.
_MOUNT: Final = re.compile(rb"^mnt_id:\t([0-9]+)$", re.MULTILINE)


def refuse_dangers(share: Share, fd: int | None, own: Sequence[str]) -> None:
    """Raises RefusedError [share-forbidden] for each danger that the share doesn't acknowledge, and for mvm's program.

    `fd` is the directory, None where there is none (yet): then its path alone is judged. `own` are the absolute paths
    of mvm's own directories.
    """
    mounts = Mounts(_lines("/proc/self/mountinfo"))
    same, what = _Place(share.host, fd, mounts), f"the share {share.host}"
    reasons = list[Reason]()
    # 1. mvm's own program
    if share.writable and (part := _find_own_program(same)):
        why = f"it is, holds or lies in {part}, which mvm itself is run from: the guest's code would run on this host"
        hint = "share a directory that is apart from mvm's program, or share this one read only (ro)"
        reasons.append(Reason(ReasonCode.SHARE_FORBIDDEN, what, why, hint))
    # 2. what a word is for
    found = dict[Danger, str]()
    for danger, why in _dangers(share, fd, own, same, mounts):
        found.setdefault(danger, why)
    if reasons:  # no word would help
        found.pop(Danger.CODE, None)
    unseen = [danger for danger in found if danger not in share.acknowledged]
    for it in unseen:
        reasons.append(Reason(ReasonCode.SHARE_FORBIDDEN, what, f"{found[it]} [{it}]", _hint(share, it)))
    if reasons:
        raise RefusedError(*reasons)


def _hint(share: Share, danger: Danger) -> str:
    words = "rw" if share.writable else "ro"
    safe = f"share only a directory made for it: --share {share.host.rstrip('/')}/DIRECTORY:{share.guest}:{words}"
    return f"{safe}; if this one is meant, the plan says so: --share {share.typed},acknowledge={danger}"


@dataclass(frozen=True, slots=True)
class Location:
    """`device` is the file system's number, major:minor; `path` is absolute, from the file system's own root."""

    device: str
    path: str

    def is_within(self, other: Self) -> bool:
        """Whether it is the other, or lies in it."""
        return self.device == other.device and is_within(self.path, other.path)


@dataclass(frozen=True, slots=True)
class Mount:
    """`root` is what is mounted, `point` where: an absolute path."""

    root: Location
    point: str


class Mounts:
    """What is mounted where: in which file system a file lies, and where in it, by the kernel's word.

    A bind mount gives a directory another path, and `..` leads out of it to where it is mounted. What stays the same is
    the file system and the path from that file system's own root (proc_pid_mountinfo(5), fields 3 and 4).
    """

    def __init__(self, lines: Sequence[str]) -> None:
        """`lines` are those of /proc/self/mountinfo."""
        self._mounts: dict[str, Mount] = {}
        for mount in procfs.mounts(lines):
            self._mounts[mount.number] = Mount(Location(mount.device, mount.root), mount.point)

    def beneath(self, directory: str) -> Iterator[Mount]:
        """Those on something in a directory, itself left out, and what shows what lies there anyway.

        systemd makes such mounts for a unit (systemd.exec(5), ReadWritePaths).
        """
        for mount in self._mounts.values():
            if mount.point != directory and is_within(mount.point, directory) and not self._shows_the_same(mount):
                yield mount

    def _shows_the_same(self, mount: Mount) -> bool:
        """Whether what is mounted is what lies at its place in the mount that holds this place."""
        above = [
            it for it in reversed(self._mounts.values()) if it.point != mount.point and is_within(mount.point, it.point)
        ]
        holding = max(above, key=lambda it: len(it.point), default=None)
        return holding is not None and mount.root == _below(holding, mount.point)

    def of_descriptor(self, fd: int) -> Location | None:
        """Where an open file lies; None where the kernel doesn't say so, as for one of another mount namespace."""
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - a descriptor's
            found = _MOUNT.search(Path(f"/proc/self/fdinfo/{fd}").read_bytes())
            mount = None if found is None else self._mounts.get(found[1].decode())
            if mount is not None and is_within(path, mount.point):
                return _below(mount, path)
        return None

    def of_path(self, path: str) -> Location | None:
        """Where the file lies that a path leads to, links followed; None where there is none, or as above."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self.of_descriptor(fd)
        finally:
            os.close(fd)


def _below(mount: Mount, path: str) -> Location:
    """Where a path at or beneath the point of a mount lies."""
    rest = path[len(mount.point) :].lstrip("/")
    return Location(mount.root.device, f"{mount.root.path.rstrip('/')}/{rest}".rstrip("/") or "/")


def _find_own_program(same: "_Place") -> str | None:
    """The first part of what mvm is run from that the share is or holds, or, of a tree, lies in."""
    tree = same.find_changeable(list_program_trees())
    return tree or next((it for it in dict.fromkeys(list_program_directories()) if same.holds(it)), None)


def _dangers(
    share: Share, fd: int | None, own: Sequence[str], same: "_Place", mounts: Mounts
) -> Iterator[tuple[Danger, str]]:
    path = share.host
    if path == "/" or same.is_itself("/"):
        yield Danger.ROOT, "it is the root of this host's file system"
    homes = tuple(dict.fromkeys(_homes()))
    yield from ((Danger.HOME, f"it is or holds {home}, a user's home") for home in homes if same.holds(home))
    for places, danger, what in ((SYSTEM, Danger.SYSTEM, "the system's"), (own, Danger.STATE, "mvm's own")):
        for place in places:
            if same.holds(place) or same.is_in(place):
                yield danger, f"it is, holds or lies in {place}, which is {what}"
    # no link leads out of a home that is closed to us
    there = tuple(home for home in homes if home.startswith("/") and os.access(home, os.X_OK))
    yield from _find_credentials_and_code(same, fd, there, share)
    yield from ((Danger.SOCKET, f"a daemon listens on {it}") for it in _listening() if same.holds_name(it))
    yield from ((Danger.MOUNTS, f"another file system is mounted on {it.point}") for it in mounts.beneath(path))


def _find_credentials_and_code(
    same: "_Place", fd: int | None, homes: Sequence[str], share: Share
) -> Iterator[tuple[Danger, str]]:
    """Look at what lies in these homes, at the names in the share's path, and at what lies in it."""
    places = {Danger.CREDENTIALS: tuple(list_credential_places(homes, os.environ))}
    for secret in _find_existing(places[Danger.CREDENTIALS]).values():
        if same.holds(secret) or same.is_in(secret):
            yield Danger.CREDENTIALS, f"it is, holds or lies in {secret}, {_MEANS[Danger.CREDENTIALS]}"
    if share.writable:
        places[Danger.CODE] = tuple(list_code_places(homes, os.environ))
        if place := same.find_changeable(places[Danger.CODE]):
            yield Danger.CODE, f"it is, holds or lies in {place}, {_MEANS[Danger.CODE]}"
    for danger, listed in places.items():
        for path in same.paths:
            if named := find_name(PurePosixPath(path).parts, _NAMES[danger]):
                yield danger, f"it is or lies in {named}, {_MEANS[danger]}"
        known, links = _look_into(listed)
        if link := next((link for link in links if any(map(same.holds_name, follow_links(link)))), None):
            yield danger, f"it holds what {link} leads to, or a link on the way there, {_MEANS[danger]}"
        if fd is not None and (inside := _find_beneath(fd, share.host, _NAMES[danger], known)):
            yield danger, f"it holds {inside}, {_MEANS[danger]}"


def _look_into(places: Sequence[str]) -> tuple[dict[tuple[int, int], str], Sequence[str]]:
    """Those of the places that are there, and the files in them, by device and inode; and paths with symbolic links.

    To some depth and number of entries each; one level of the system's directories that a variable names.
    """
    known, links = _find_existing(places), [place for place in places if os.path.islink(place)]  # noqa: PTH114 - a text
    for (device, _), place in tuple(known.items()):
        if place in SYSTEM_CODE:
            continue
        if os.path.realpath(place) != place:
            links.append(place)
        depth = 1 if any(is_within(place, it) for it in SYSTEM_CODE) else _DEPTH
        with suppress(OSError), _open(place) as fd:
            for above, entry in islice(walk(fd, depth), _ENTRIES):
                path = "/".join((place, *above, entry.name))
                if entry.is_symlink():
                    links.append(path)
                elif not is_directory(entry):
                    known.setdefault((device, entry.inode()), path)
    return known, links


@contextmanager
def _open(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class _Place:
    """A directory by its path and, if it is open, by what it is and by what is mounted in it."""

    def __init__(self, path: str, fd: int | None, mounts: Mounts) -> None:
        self._path, self._mounts = path, mounts
        self._chain = () if fd is None else tuple(_upwards(fd))
        self._itself = None if fd is None else mounts.of_descriptor(fd)
        mounted = tuple(it.root for it in mounts.beneath(path))
        self._locations = mounted if self._itself is None else (self._itself, *mounted)

    @property
    def paths(self) -> tuple[str, ...]:
        """Its path, and those from the roots of their file systems: of it, and of what is mounted in it."""
        return (self._path, *(it.path for it in self._locations))

    def is_itself(self, other: str) -> bool:
        """Whether it, or what is mounted in it, is this very place."""
        return _identity(other) in self._chain[:1] or self._mounts.of_path(other) in self._locations

    def holds(self, other: str) -> bool:
        """Whether it is this place, or this place lies in it."""
        if not _exists(other):
            return False
        return self.holds_name(other) or self.holds_name(os.path.realpath(other)) or _identity(other) in self._chain[:1]

    def holds_name(self, other: str) -> bool:
        """The same by its path and location, which may be that of nothing by now."""
        there = self._mounts.of_path(other)
        return is_within(other, self._path) or any(there is not None and there.is_within(it) for it in self._locations)

    def is_in(self, other: str) -> bool:
        """Whether it, or what is mounted in it, is this place or lies in it."""
        there, real = self._mounts.of_path(other), os.path.realpath(other)
        return (
            is_within(self._path, other)
            or is_within(self._path, real)
            or _identity(other) in self._chain
            or any(there is not None and it.is_within(there) for it in self._locations)
        )

    def find_changeable(self, places: Iterable[str]) -> str | None:
        """Find the first place that a writer in it can change, also by changing what lies there, or can make."""
        makes, exists = cache(self.holds), cache(_exists)
        for place in dict.fromkeys(places):
            if exists(place):
                if self.holds(place) or self.is_in(place):
                    return place
                continue
            above, dangling = place, False
            while not exists(above):
                dangling = dangling or os.path.islink(above)  # noqa: PTH114 - a text
                above = os.path.dirname(above)  # noqa: PTH120 - a text
            real = os.path.realpath(place) if dangling else place
            if is_within(place, self._path) or is_within(real, self._path) or (above != "/" and makes(above)):
                return place
        return None


def _upwards(fd: int) -> Iterator[tuple[int, int]]:
    """What a directory is, and each directory above it: device and inode."""
    here = os.dup(fd)
    try:
        while True:
            status = os.fstat(here)
            yield status.st_dev, status.st_ino
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            here, below = above, here
            os.close(below)
            if os.path.samestat(os.fstat(here), status):
                return
    finally:
        os.close(here)


def _find_existing(places: Iterable[str]) -> dict[tuple[int, int], str]:
    """Those of the places that are there, by device and inode."""
    return {found: place for place in places if (found := _identity(place)) is not None}


def _exists(path: str) -> bool:
    return _identity(path) is not None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - what a link leads to is meant
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _homes() -> Iterator[str]:
    """Homes of people and of root, and the caller's own."""
    yield from filter(None, (os.environ.get("HOME"),))
    for entry in pwd.getpwall():
        is_persons = entry.pw_uid == 0 or _FIRST_PERSON <= entry.pw_uid < _LAST_PERSON
        if is_persons and entry.pw_dir.startswith("/") and entry.pw_dir != "/":
            yield entry.pw_dir
    with suppress(OSError):
        yield from (str(home) for home in Path("/home").iterdir())


def _find_beneath(fd: int, path: str, names: Mapping[str, str], known: Mapping[tuple[int, int], str]) -> str | None:
    """The first such name in a directory, or other name of a known file, to some depth and number of entries.

    The names of the directory's own path count as far as a name goes on in it.
    """
    inodes, before = {inode for _, inode in known}, PurePosixPath(path).parts[-2:]
    for number, (above, entry) in enumerate(walk(fd, _DEPTH), 1):
        if number > _ENTRIES:
            return None
        if named := find_name((*before, *above, entry.name)[-3:], names):
            return named
        if entry.inode() in inodes:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if place := known.get((status.st_dev, status.st_ino)):
                    return f"{place} by another name, {'/'.join((*above, entry.name))}"
    return None


def _listening() -> Iterator[str]:
    """Paths on which a process listens (proc_pid_net(5), unix), as they were bound.

    Those that were bound by a descriptor of "this" process are left out: here that number is another file's, mostly.
    """
    ours = ("/proc/self/", "/proc/thread-self/", f"/proc/{os.getpid()}/", "/dev/fd/")
    for line in _lines("/proc/net/unix"):
        found = _BOUND.fullmatch(line)
        if found is not None and int(found[1], 16) & _LISTENING and not found[2].startswith(ours):
            yield os.path.realpath(found[2])


def _lines(path: str) -> Sequence[str]:
    try:
        return procfs.lines(Path(path))
    except OSError:
        return ()
