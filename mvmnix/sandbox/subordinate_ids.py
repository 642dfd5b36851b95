"""A plain user's subordinate uids and gids (subuid(5), subgid(5)): those that machines get, and namespaces with them.

Without root's rights a uid that isn't the caller's comes into a user namespace through newuidmap(1) and newgidmap(1)
alone (package uidmap). They are set-user-ID programs, which look into /etc/subuid and /etc/subgid themselves; mvm gives
them a process id and three numbers each, which nothing that a stranger wrote decides.

1. A user's range is the first line in each file that names the user, by name or by uid, and holds enough.
2. Machines get ids from its middle on: other programs (podman, for one) give away those at its start and its end.
   A container has CONTAINER_COUNT from its start on, as podman's have; what runs the container is the first of them.
3. What is found is looked at and not tried: a maker of namespaces that fails all the same says so in `namespace_of`.

This is the only maker of user namespaces with ids of the host's in them (user_namespaces(7)). A namespace is held by a
descriptor. The last ones are kept, as the same ones are asked for again and again.
"""

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.formats.escaping import shell_command
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.system import process, procfs
from mvmnix.system.descriptors import made_by_child
from mvmnix.system.trusted_path import user_name

#: So many ids are given away at most: each is of one sandbox.
POOL_COUNT: Final = 4096
#: Users of a container, and what runs it; Debian's useradd(8) gives that many.
CONTAINER_COUNT: Final = 65_536
#: The least that a range has to hold.
_LEAST: Final = 1024
_SECONDS: Final = 30.0
_INSTALL: Final = "apt-get install --no-install-recommends uidmap"
_RANGES: Final = "see that /etc/subuid and /etc/subgid give you a range (getsubids), and what `mvm doctor` says"
NEWUIDMAP: Final = Candidates("newuidmap", ("/usr/bin/newuidmap", "/run/wrappers/bin/newuidmap"), _INSTALL)
NEWGIDMAP: Final = Candidates("newgidmap", ("/usr/bin/newgidmap", "/run/wrappers/bin/newgidmap"), _INSTALL)
_SUBUID, _SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
#: How many namespaces are kept.
_MOST: Final = 32
_namespaces: Final[OrderedDict[Hashable, int]] = OrderedDict()
_lock: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class SubordinateIds:
    """`count` uids and gids of a user's, from these on; and the programs that map them, by absolute paths.

    `uids` and `gids` are the whole ranges: the first, and how many.
    """

    first_uid: int
    first_gid: int
    count: int
    newuidmap: str
    newgidmap: str
    uids: tuple[int, int] = (0, 0)
    gids: tuple[int, int] = (0, 0)

    @classmethod
    def find(cls) -> Self:
        """Those of the user that this process runs as.

        Raises MvmnixError, with what an administrator may do, where there are none; RefusedError [state-permissions].
        """
        # looked for first, so that one administrator's visit is enough
        programs = locate(NEWUIDMAP), locate(NEWGIDMAP)
        names = frozenset({str(os.geteuid()), user_name(os.geteuid())})
        uids, gids = (_range(path, names) for path in (_SUBUID, _SUBGID))  # 1
        count = min(POOL_COUNT, uids[1] // 2, gids[1] // 2)
        first_uid, first_gid = uids[0] + uids[1] // 2, gids[0] + gids[1] // 2  # 2
        if not _is_mapped("uid_map", first_uid, count) or not _is_mapped("gid_map", first_gid, count):
            raise MvmnixError("this user namespace lacks your subordinate uids", hint="run mvm outside of a container")
        for program in programs:
            if why := _powerless(program):
                raise MvmnixError(f"{program} {why}", hint=f"install the distribution's package again: {_INSTALL}")
        if procfs.has_no_new_privileges():
            why = "this process can't gain rights by executing a program (PR_SET_NO_NEW_PRIVS)"
            raise MvmnixError(why, hint="start mvm from a shell of your own")
        return cls(first_uid, first_gid, count, *programs, uids, gids)

    def namespace_of(self, uid: int) -> int:
        """A user namespace in which one of these uids is the only one, and its gid has the same number there.

        The caller closes it. Raises OSError, ProcessError when it can't be made; ValueError for another uid.
        """
        number = uid - self.first_uid
        if not 0 <= number < self.count:
            raise ValueError(f"{uid} is not one of these")

        def write(process: int) -> None:
            self._map(self.newuidmap, process, uid, uid, 1)
            self._map(self.newgidmap, process, uid, self.first_gid + number, 1)

        return kept_namespace((self, uid), write)

    def container_namespace(self) -> int:
        """A user namespace in which CONTAINER_COUNT of the uids and gids are 0 and up, none of them the user's own.

        The caller closes it. Raises OSError, ProcessError when it can't be made; MvmnixError for a smaller range.
        """
        self.refuse_container()

        def write(process: int) -> None:
            self._map(self.newuidmap, process, 0, self.uids[0], CONTAINER_COUNT)
            self._map(self.newgidmap, process, 0, self.gids[0], CONTAINER_COUNT)

        return kept_namespace((self, "container"), write)

    def refuse_container(self) -> None:
        """Raises MvmnixError where there are too few ids for a container."""
        if (least := min(self.uids[1], self.gids[1])) < CONTAINER_COUNT:
            user = user_name(os.geteuid())
            ids = _free()
            more = shell_command("usermod", "--add-subuids", ids, "--add-subgids", ids, user)
            hint = f"an administrator gives more: {more}"
            raise MvmnixError(f"a container takes {CONTAINER_COUNT} subordinate ids, and {user} has {least}", hint=hint)

    @staticmethod
    def _map(program: str, child: int, inside: int, outside: int, count: int) -> None:
        words = (program, *map(str, (child, inside, outside, count)))
        process.run(words, env=process.FIXED, timeout=_SECONDS, hint=_RANGES)


def kept_namespace(key: Hashable, write: Callable[[int], None]) -> int:
    """A descriptor of the namespace that is kept under this key, or was made now; the caller closes it.

    `write` gives the namespace of a process, by its id, its ids. Raises OSError, ProcessError, and what `write` raises.
    """
    with _lock:
        if key not in _namespaces:
            _namespaces[key] = _made(write)
        _namespaces.move_to_end(key)
        while len(_namespaces) > _MOST:
            os.close(_namespaces.popitem(last=False)[1])
        return os.dup(_namespaces[key])


def _made(write: Callable[[int], None]) -> int:
    """It is handed out by a process in it: another one would need the right to trace that."""

    def unshare() -> int:
        os.unshare(os.CLONE_NEWUSER)
        return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    with made_by_child(unshare, "user namespace") as (child, namespace):
        try:
            write(child)
        except BaseException:
            os.close(namespace)
            raise
        return namespace


def _is_mapped(name: str, first: int, count: int) -> bool:
    """Whether this user namespace has these ids, by its uid_map or gid_map."""
    ids = procfs.id_map(procfs.lines(Path("/proc/self", name)))
    return any(first in one and first + count - 1 in one for one in ids)


def _range(path: Path, names: frozenset[str]) -> tuple[int, int]:
    """The first id, and how many, of the first line for one of these names. Raises MvmnixError without one."""
    with suppress(FileNotFoundError):
        for name, first, count in _lines(path.read_text(encoding="utf-8", errors="replace").splitlines()):
            if name in names and count >= _LEAST:
                return first, count
    what, option = ("uids", "--add-subuids") if path == _SUBUID else ("gids", "--add-subgids")
    who = user_name(os.geteuid())
    hint = f"an administrator gives some: {shell_command('usermod', option, _free(), who)}"
    raise MvmnixError(f"{who} has no range of {_LEAST} subordinate {what} in {path}", hint=hint)


def _free() -> str:
    """A range of CONTAINER_COUNT ids behind all that users have, for usermod(8)."""
    files = (path for path in (_SUBUID, _SUBGID) if path.is_file())
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
    taken = (first + count for text in texts for _, first, count in _lines(text.splitlines()))
    begin = max((100_000, *taken))
    return f"{begin}-{begin + CONTAINER_COUNT - 1}"


def _lines(lines: Iterable[str]) -> Iterable[tuple[str, int, int]]:
    for line in lines:
        match line.split(":"):
            case [name, first, count] if first.isdecimal() and count.isdecimal() and name:
                yield name, int(first), int(count)


def _powerless(program: str) -> str:
    """Why a program can't map another's uid: it is neither set-user-ID root nor has a file capability; "" otherwise."""
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        return "lies in a file system that is mounted nosuid"
    if os.stat(program).st_mode & stat.S_ISUID:  # noqa: PTH116 - a text
        return ""
    with suppress(OSError):
        os.getxattr(program, "security.capability")
        return ""
    return "is neither set-user-ID nor has a file capability"
