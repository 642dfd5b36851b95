"""What mvm's own uid may use of root's files: what root names when it starts mvm, and nothing that comes later.

The rule (docs/privileges.md says it to users):

1. mvm's own directories, and the lease files of the pool, to write.
2. The working directory, and each directory that a word of the command line names (words.py), to write; for a file,
   whether it is there yet or not, the directory that it lies in; the git work trees around these, to read, where `.git`
   belongs to root or to the directory's owner. Parts of a word count, as in `path:./guest#hello`. `VARIABLES` count as
   words.
3. Not so a directory of the system, or one that holds such a directory; root's or another user's home itself; a hidden
   directory of a home. A file that a word names there is granted by itself, to read.
4. This program: its package and its interpreter's directory, to read; also inside of what is granted to write. Its own
   flake, of which the builder image is made, to read, where nothing above it is granted.
5. Of root's configuration, what says how to reach servers: `READ_OF_HOME`, to read.

What is granted to write is closed to other users, itself or by a directory of root's above it, in directories of
root's; else it is granted to read. What mvm makes there belongs to root on disk and could have the set-user-ID bit: a
user who reached it would be root.

Only root's files get mvm's uid for an owner; those of other users look as they do to every user. What is granted is
opened as root, before this process has read anything but its command line and its environment.
"""

import os
import pwd
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix import own_flake
from mvmnix.privileges.words import of_host

#: Directories of the system (hier(7)): they, what is in them, and what they are in.
_SYSTEM: Final = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")
#: Not themselves, but what is in them.
_HOLDING: Final = (
    *("/home", "/media", "/mnt", "/nix", "/opt", "/srv", "/var", "/var/lib"),
    *("/tmp", "/var/tmp"),  # noqa: S108 - nothing is put there
)
_NEVER: Final = ("/var/cache", "/var/log", "/var/mail", "/var/spool", "/nix/store", "/nix/var")
#: Files of root's home that say how servers are reached: pip.conf, netrc(5), credentials for registries.
READ_OF_HOME: Final = (
    *(".config/pip/pip.conf", ".pip/pip.conf", ".netrc", ".docker/config.json", ".gitconfig", ".config/git/config"),
)
#: Variables that name files and directories: mvm's own, and those by which this machine says how servers are reached.
VARIABLES: Final = re.compile(
    r"MVMNIX_\w+|TMPDIR|TEMP|TMP|SSL_CERT_\w+|\w+_CA_BUNDLE|NIX_SSL_CERT_FILE|GIT_SSL_CAINFO|PIP_\w+|APT_CONFIG"
    r"|DOCKER_CONFIG|REGISTRY_AUTH_FILE|NETRC|SIGSTORE_\w+"
)
#: What separates paths from other parts of a word, and what comes behind one.
_SEPARATORS: Final = re.compile(r"[=,:]")
_BEHIND: Final = re.compile(r"[#?].*", re.DOTALL)
#: No word that long names a file (limits.h, PATH_MAX).
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Grant:
    """A directory or file by its absolute path, open as root sees it (O_PATH), to write or to read.

    Of one that is `named` rule 1 or 2 asks for more than to read it. Without one that is `needed` mvm can't run.
    """

    path: str
    fd: int
    writable: bool
    named: bool
    needed: bool


@dataclass(frozen=True, slots=True)
class Grants:
    """All of them, those above before those beneath; `links` are symbolic links on the way, and where they lead."""

    all: tuple[Grant, ...]
    links: Mapping[str, str]

    @classmethod
    def open(cls, own: Sequence[str], words: Sequence[str], environment: Mapping[str, str], home: str) -> Self:
        """Look at the command line, the environment and the working directory. What can't be opened isn't granted.

        `own` are mvm's own directories, `home` is root's by passwd(5).
        """
        homes = {home, *_homes()}
        wanted: dict[str, bool] = {}
        links: dict[str, str] = {}
        for path in (os.getcwd(), *_named(words, environment)):  # noqa: PTH109 - 2
            for granted, real, writable in _by_rule(path, homes):
                links[granted] = real
                wanted[real] = wanted.get(real, False) or writable
        program = tuple(_program())
        flake = (path for path in _flake() if not any(_is_within(path, above) for above in (*wanted, *program)))
        fixed = dict.fromkeys((*program, *flake, *(f"{home}/{name}" for name in READ_OF_HOME)), False)  # 4, 5
        fixed |= dict.fromkeys(own, True)  # 1
        for path, writable in fixed.items():
            links[path] = os.path.realpath(path)
            wanted[links[path]] = writable
        needed = {links[path] for path in own}
        return cls(tuple(_opened(wanted, needed)), {path: real for path, real in links.items() if path != real})

    def above(self, path: str) -> Grant | None:
        """The nearest grant that is this path or holds it."""
        return next((it for it in reversed(self.all) if path == it.path or path.startswith(f"{it.path}/")), None)

    def has_at_or_beneath(self, path: str) -> bool:
        """Whether one of them is this path or lies beneath it."""
        return any(it.path == path or it.path.startswith(f"{path.rstrip('/')}/") for it in self.all)

    def close(self) -> None:
        """Close their descriptors."""
        for grant in self.all:
            os.close(grant.fd)


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH120, PTH100 - a text


def _flake() -> Iterator[str]:
    directory = own_flake.directory()
    return (f"{directory}/{name}" for name in own_flake.FILES)


def _program() -> Iterator[str]:
    """Where this program is: the packages that it imports and its interpreter, beside /usr, which everybody reads.

    What is there stays as it is, root's own: it is looked at whether root alone can change a program.
    """
    imported = (path for path in sys.path if path.startswith("/") and os.path.isdir(path))  # noqa: PTH112
    found = (_package(), sys.prefix, *imported)
    yield from (path for path in found if not _is_within(os.path.realpath(path), "/usr"))


def _named(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """The absolute paths that words may name, without `.`, `..` and symbolic links of the last component resolved."""
    values = (value for name, value in environment.items() if VARIABLES.fullmatch(name) and value.startswith("/"))
    for word in (*of_host(words), *values):
        if len(word) > _LONGEST:
            continue
        parts = _SEPARATORS.split(word)
        for text in {word, *parts, *(_BEHIND.sub("", part) for part in (word, *parts))}:
            if text and "\0" not in text and ("/" in text or os.path.lexists(text)):
                yield os.path.abspath(text.replace("//", "/"))  # noqa: PTH100 - a text


def _by_rule(path: str, homes: set[str]) -> Iterator[tuple[str, str, bool]]:
    """What naming this path grants (2, 3): its path, where that really leads, and whether to write.

    No file is read, for it may be a stranger's.
    """
    is_directory = os.path.isdir(path)  # noqa: PTH112
    directory = path if is_directory else os.path.dirname(path)  # noqa: PTH120
    real = os.path.realpath(directory)
    if _is_grantable(real, homes):
        yield directory, real, True
        for above in map(str, Path(real).parents):
            if _is_work_tree(above) and _is_grantable(above, homes):
                yield above, above, False
    elif not is_directory:
        yield path, os.path.realpath(path), False


def _is_work_tree(directory: str) -> bool:
    """Whether `.git` is there, and not planted: others may make files in some directories of root's."""
    with suppress(OSError):
        return os.lstat(f"{directory}/.git").st_uid in {0, os.lstat(directory).st_uid}
    return False


def _is_grantable(real: str, homes: set[str]) -> bool:
    if any(_is_within(real, system) or _is_within(system, real) for system in (*_SYSTEM, *_NEVER)):
        return False
    if real in _HOLDING or any(_is_within(home, real) for home in homes):
        return False
    return not any(_is_within(real, home) and real[len(home) + 1 :].startswith(".") for home in homes)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _homes() -> Iterator[str]:
    for entry in pwd.getpwall():
        if entry.pw_dir.startswith("/") and entry.pw_dir not in {"/", "/nonexistent"}:
            yield entry.pw_dir.rstrip("/")


def _opened(wanted: Mapping[str, bool], needed: set[str]) -> Iterator[Grant]:
    for path in sorted(wanted, key=lambda path: (path.count("/"), path)):
        with suppress(OSError, ValueError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            status = os.fstat(fd)
            kept = stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)
            # what was judged, and not what a link leads to that has come since
            if kept and os.readlink(f"/proc/self/fd/{fd}") == path:  # noqa: PTH115 - a descriptor's
                yield Grant(path, fd, wanted[path] and is_closed(path), wanted[path], path in needed)
            else:
                os.close(fd)


def is_closed(path: str) -> bool:
    """Whether it, or a directory above it, lets only root and root's group pass, and root alone can exchange it.

    The owner of a directory can open it at any time, and exchange what is in it.
    """
    real = Path(os.path.realpath(path))
    for above in (*reversed(real.parents), real):
        status = above.lstat()
        exchanged = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid != 0)
        if status.st_uid != 0 or (exchanged and not status.st_mode & stat.S_ISVTX):
            return False
        if not status.st_mode & stat.S_IXOTH and not (status.st_mode & stat.S_IXGRP and _lets_others(above, status)):
            return True
    return False


def _lets_others(directory: Path, status: os.stat_result) -> bool:
    """Whether the bits of the group are for others than root's: with an access list they are its mask (acl(5))."""
    return status.st_gid != 0 or "system.posix_acl_access" in os.listxattr(directory)
