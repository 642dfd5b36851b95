"""What mvm's own uid may use of root's files: what root names when it starts mvm, and nothing that comes later.

The rule (docs/privileges.md says it to users):

1. mvm's own directories, and the lease files of the pool, to write.
2. The working directory, and each directory that a word of the command line names, to write; for a file, whether it is
   there yet or not, the directory that it lies in; the git work trees around these, to read. Parts of a word count, as
   in `--share=/data:/data:rw` and `path:./guest#hello`; what follows `--` is the guest's. `VARIABLES` count as words.
3. Not so a directory of the system, or one that holds such a directory; root's or another user's home itself; a hidden
   directory of a home. A file that a word names there is granted by itself, to read.
4. This program: its package and its interpreter's directory, to read; also inside of what is granted to write. The
   flake beside it, of which the builder image is made, to read, where nothing above it is granted (2).
5. Of root's configuration, what says how to reach servers: `READ_OF_HOME`, to read.

What is granted to write is closed to other users, itself or by a directory above it; else it is granted to read. What
mvm makes there belongs to root on disk and could have the set-user-ID bit: a user who reached it would be root.

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
#: This installation's flake, beside the package.
FLAKE: Final = ("flake.nix", "flake.lock", "modules", "profiles")
#: No word that long names a file (limits.h, PATH_MAX).
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Grant:
    """A directory or file by its absolute path, open as root sees it (O_PATH), to write or to read.

    Without one that is `needed` mvm can't run.
    """

    path: str
    fd: int
    writable: bool
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
        wanted: dict[str, bool] = {f"{home}/{name}": False for name in READ_OF_HOME}  # 5
        homes = {home, *_homes()}
        for path in (os.getcwd(), *_named(words, environment)):  # noqa: PTH109 - 2
            for granted, writable in _by_rule(path, homes):
                wanted[granted] = wanted.get(granted, False) or writable
        flake = [path for path in _flake() if not any(_is_within(path, above) for above in wanted)]
        wanted |= dict.fromkeys((*_program(), *flake), False)  # 4
        wanted |= dict.fromkeys(own, True)  # 1
        links = {path: real for path in wanted if (real := os.path.realpath(path)) != path}
        wanted = {links.get(path, path): writable for path, writable in wanted.items()}
        return cls(tuple(_opened(wanted, {links.get(path, path) for path in own})), links)

    def above(self, path: str) -> Grant | None:
        """The nearest grant that is this path or holds it."""
        return next((it for it in reversed(self.all) if path == it.path or path.startswith(f"{it.path}/")), None)

    def close(self) -> None:
        """Close their descriptors."""
        for grant in self.all:
            os.close(grant.fd)


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH120, PTH100 - a text


def _flake() -> Iterator[str]:
    for name in FLAKE:
        yield f"{os.path.dirname(_package())}/{name}"  # noqa: PTH120 - a text


def _program() -> Iterator[str]:
    """Where this program is: the packages that it imports and its interpreter, beside /usr."""
    yield _package()
    yield sys.prefix
    yield from (path for path in sys.path if path.startswith("/") and os.path.isdir(path))  # noqa: PTH112


def _named(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """The absolute paths that words may name, without `.`, `..` and symbolic links of the last component resolved."""
    ours = words[: words.index("--")] if "--" in words else words
    values = (value for name, value in environment.items() if VARIABLES.fullmatch(name) and value.startswith("/"))
    for word in (*ours, *values):
        if len(word) > _LONGEST:
            continue
        parts = _SEPARATORS.split(word)
        for text in {word, *parts, *(_BEHIND.sub("", part) for part in (word, *parts))}:
            if text and "\0" not in text and ("/" in text or os.path.lexists(text)):
                yield os.path.abspath(text.replace("//", "/"))  # noqa: PTH100 - a text


def _by_rule(path: str, homes: set[str]) -> Iterator[tuple[str, bool]]:
    """What naming this path grants, and whether to write (2, 3). No file is read, for it may be a stranger's."""
    is_directory = os.path.isdir(path)  # noqa: PTH112
    directory = path if is_directory else os.path.dirname(path)  # noqa: PTH120
    if _is_grantable(directory, homes):
        yield directory, True
        for above in map(str, Path(directory).parents):
            if os.path.lexists(f"{above}/.git") and _is_grantable(above, homes):
                yield above, False
    elif not is_directory:
        yield path, False


def _is_grantable(directory: str, homes: set[str]) -> bool:
    real = os.path.realpath(directory)
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
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                yield Grant(path, fd, wanted[path] and is_closed(path), path in needed)
            else:
                os.close(fd)


def is_closed(path: str) -> bool:
    """Whether it, or a directory above it, is one that others than its owner and group may not pass.

    A group may be root's alone: another one counts as others.
    """
    real = Path(os.path.realpath(path))
    for above in (real, *real.parents):
        status = above.stat()
        if not status.st_mode & stat.S_IXOTH and (status.st_gid == 0 or not status.st_mode & stat.S_IXGRP):
            return True
    return False
