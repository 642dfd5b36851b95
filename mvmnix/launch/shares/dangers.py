"""Finds what makes a directory of this host one that is shared only by an explicit word in the plan.

A directory is judged by its path, which holds no symbolic link by then; by what it is, whatever name it is reached by
(device and inode, of it and of the directories above it); and by what lies in it: listening sockets and mounts by the
kernel's word, credentials by name, down to some depth.
"""

import os
import pwd
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.launch.shares.share import Danger, Share, is_within

#: Directories of the system: they, what is in them, and what they are in.
SYSTEM: Final = (
    *("/etc", "/proc", "/sys", "/dev", "/run", "/boot", "/var/run", "/var/lib/docker", "/var/lib/containerd"),
    *("/var/lib/containers", "/var/lib/libvirt", "/var/lib/incus", "/var/lib/lxd", "/var/lib/kubelet"),
)
#: Names of directories that hold credentials, wherever they are.
CREDENTIALS: Final = frozenset(
    {
        *(".ssh", ".aws", ".gnupg", ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh", ".config/op"),
        *(".password-store", ".local/share/keyrings", ".local/share/kwalletd", ".mozilla", ".config/google-chrome"),
        *(
            ".config/chromium",
            ".thunderbird",
            ".netrc",
            ".git-credentials",
            ".pgpass",
            ".npmrc",
            ".pypirc",
            ".vault-token",
        ),
    }
)
#: Uids of people (login.defs(5), UID_MIN); root has a home too.
_FIRST_PERSON: Final = 1000
_LAST_PERSON: Final = 60_000
#: So deep, and so many entries, are looked through for credentials.
_DEPTH: Final = 3
_ENTRIES: Final = 20_000
_LISTENING: Final = 1 << 16  # __SO_ACCEPTCON in /proc/net/unix
#: A line there, up to flags and path; a path with a line's end in it goes on in lines that are none.
_SOCKET: Final = re.compile(r"[0-9a-f]+: [0-9A-F]+ [0-9A-F]+ ([0-9A-F]+) [0-9A-F]+ [0-9A-F]+ +[0-9]+ (/.*)", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def refuse_dangers(share: Share, fd: int | None, own: Sequence[str]) -> None:
    """Raises RefusedError [share-forbidden] for each danger that the share doesn't acknowledge.

    `fd` is the directory, None where there is none (yet): then its path alone is judged. `own` are the absolute paths
    of mvm's own directories.
    """
    found = dict[Danger, str]()
    for danger, why in _dangers(share.host, fd, own):
        found.setdefault(danger, why)
    unseen = [danger for danger in found if danger not in share.acknowledged]
    if unseen:
        what = f"the share {share.host}"
        raise RefusedError(
            *(Reason(ReasonCode.SHARE_FORBIDDEN, what, f"{found[it]} [{it}]", _hint(share, it)) for it in unseen)
        )


def _hint(share: Share, danger: Danger) -> str:
    words = "rw" if share.writable else "ro"
    safe = f"share only a directory made for it: --share {share.host.rstrip('/')}/DIRECTORY:{share.guest}:{words}"
    return f"{safe}; if this one is meant, the plan says so: --share {share.typed},acknowledge={danger}"


def _dangers(path: str, fd: int | None, own: Sequence[str]) -> Iterator[tuple[Danger, str]]:
    if path == "/":
        yield Danger.ROOT, "it is the root of this host's file system"
    same = _Place(path, fd)
    yield from ((Danger.HOME, f"it is or holds {home}, somebody's home") for home in _homes() if same.holds(home))
    for places, danger, what in ((SYSTEM, Danger.SYSTEM, "the system's"), (own, Danger.STATE, "mvm's own")):
        for place in places:
            if same.holds(place) or same.is_in(place):
                yield danger, f"it is, holds or lies in {place}, which is {what}"
    if named := _credential_in(PurePosixPath(path).parts):
        yield Danger.CREDENTIALS, f"{named} holds credentials"
    yield from ((Danger.SOCKET, f"a daemon listens on {it}") for it in _listening() if _beneath(it, path))
    yield from ((Danger.MOUNTS, f"another file system is mounted on {it}") for it in _mounts() if _beneath(it, path))
    if fd is not None and (inside := _credentials_beneath(fd)):
        yield Danger.CREDENTIALS, f"it holds {inside}"


class _Place:
    """A directory by its path and, if it is open, by what it is."""

    def __init__(self, path: str, fd: int | None) -> None:
        self._path = path
        self._chain = () if fd is None else tuple(_upwards(fd))

    def holds(self, other: str) -> bool:
        """Whether it is this place, or this place lies in it."""
        real = os.path.realpath(other)
        return _exists(other) and (
            is_within(other, self._path) or is_within(real, self._path) or _identity(other) in self._chain[:1]
        )

    def is_in(self, other: str) -> bool:
        """Whether it lies in this place."""
        real = os.path.realpath(other)
        return is_within(self._path, other) or is_within(self._path, real) or _identity(other) in self._chain


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


def _beneath(path: str, directory: str) -> bool:
    return path != directory and is_within(path, directory)


def _credential_in(parts: Sequence[str]) -> str | None:
    """The first name, or two names after each other, of a path that stand for credentials."""
    for index, name in enumerate(parts):
        for words in (name, "/".join(parts[index : index + 2]), "/".join(parts[index : index + 3])):
            if words in CREDENTIALS:
                return words
    return None


def _credentials_beneath(fd: int) -> str | None:
    """The first such name in a directory, to some depth and number of entries, no link followed."""
    seen = 0

    def look(here: int, above: tuple[str, ...]) -> str | None:
        nonlocal seen
        for name in os.listdir(here):
            seen += 1
            if seen > _ENTRIES:
                return None
            if named := _credential_in((*above, name)):
                return named
            if len(above) + 1 < _DEPTH and (child := _entered(here, name)) is not None:
                try:
                    if deeper := look(child, (*above, name)):
                        return deeper
                finally:
                    os.close(child)
        return None

    return look(fd, ())


def _entered(parent: int, name: str) -> int | None:
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return None
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None


def _listening() -> Iterator[str]:
    """Paths on which somebody listens (proc_pid_net(5), unix), as they were bound."""
    for found in filter(None, map(_SOCKET.fullmatch, _lines("/proc/net/unix"))):
        if int(found[1], 16) & _LISTENING:
            yield os.path.realpath(found[2])


def _mounts() -> Iterator[str]:
    """Where file systems are mounted (proc_pid_mountinfo(5))."""
    for line in _lines("/proc/self/mountinfo"):
        yield _ESCAPED.sub(lambda it: chr(int(it[1], 8)), line.split()[4])


def _lines(path: str) -> Sequence[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n").split("\n")
    except OSError:
        return ()


#: For whoever shows them: what each word stands for.
MEANINGS: Final[Mapping[Danger, str]] = {
    Danger.ROOT: "the root of the host's file system",
    Danger.HOME: "somebody's home, or what holds one",
    Danger.SYSTEM: "a directory of the system, what lies in one, or what holds one",
    Danger.SOCKET: "what holds a socket on which a daemon listens",
    Danger.STATE: "mvm's own state, keys, policy or cache",
    Danger.CREDENTIALS: "a directory or file that holds credentials, or what holds one",
    Danger.MOUNTS: "what has other file systems mounted in it",
}
