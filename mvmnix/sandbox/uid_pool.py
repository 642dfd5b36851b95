"""Leases a uid and gid of the host to one sandbox at a time; a number alone where this process can give away none.

The pool that a command's sandboxes take their leases from is one of two:

1. A user's with subordinate uids (subordinate_ids.py): one for all state directories of that user, in the home that
   the password file names, whatever HOME says. A uid that two pools gave away would be the uid of two machines.
2. Otherwise numbers without uids, in the state directory.

A lease is the record lock on `<number>.lock`. Its holder makes the file one byte long, and removes it before it
releases the lock. So a lock on a file that isn't empty was one of a holder that was killed: the next `take` or `sweep`
kills the processes of that uid, and removes the control groups that `<number>.json` names, which is written before they
are made. It has the uid too, where that is a subordinate one: another time the user may have others, or none.
"""

import os
import secrets
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import MalformedError, Record, canonical, parse_json, read
from mvmnix.sandbox.subordinate_ids import POOL_COUNT, SubordinateIds
from mvmnix.sandbox.uid_pool_paths import NAME, pool_paths, user_path
from mvmnix.system import control_groups, log, procfs, system_user
from mvmnix.system.child_causes import Cause
from mvmnix.system.file_lock import Lock
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import ProcessError, is_readable

#: Seconds for which processes that were killed may take to be gone.
_PATIENCE: Final = 10.0
_LIMIT: Final = 65536
#: What the programs that map ids say where they may not.
_REFUSED: Final = frozenset({Cause.OWN, Cause.DENIED, Cause.NAMESPACES})


@dataclass(frozen=True, slots=True)
class Lease:
    """A number that this process holds.

    `uid` is a subordinate one (SubordinateIds); None where it is the caller's own.
    """

    pool: "UidPool"
    number: int
    uid: int | None
    lock: Lock
    #: Names what belongs to it on the host; unique, as other pools exist beside this one.
    name: str

    def note(self, groups: Sequence[str]) -> None:
        """Write down which control groups are about to be made for it, by absolute paths, and its uid."""
        uid = {} if self.uid is None else {"uid": self.uid}
        self.pool.directory.write_atomic(f"{self.number}.json", canonical({"groups": list(groups)} | uid))

    def namespace(self) -> int | None:
        """A user namespace in which its uid is the only one; the caller closes it. None without one.

        Raises OSError, MvmnixError.
        """
        uids = self.pool.uids
        return None if uids is None or self.uid is None else uids.namespace_of(self.uid)

    def release(self) -> None:
        """Give it back; its processes have ended. A second call does nothing."""
        self.pool.give_back(self)


class UidPool:
    """The leases whose locks lie in a directory."""

    def __init__(self, directory: Directory, uids: SubordinateIds | None = None) -> None:
        """`uids` are those that it gives away; None where it gives away numbers alone."""
        self.directory = directory
        self.uids = uids
        self._held: set[str] = set()

    def take(self, *, own_uid: bool = True) -> Lease:
        """A free number, with nothing left of its last holder; its lease has no uid where it isn't to have an own one.

        Raises MvmnixError when all are taken.
        """
        count = POOL_COUNT if self.uids is None else self.uids.count
        for number in range(count):
            if (lease := self._try(number)) is not None:
                return lease if own_uid else replace(lease, uid=None)
        hint = f"end machines, or see who holds the locks in {self.directory.path}"
        raise MvmnixError(f"all {count} numbers for sandboxes are taken", hint=hint)

    def sweep(self) -> None:
        """Clean up what supervisors that were killed left."""
        numbers = {name.partition(".")[0] for name in self.directory.names()}
        for number in map(int, filter(str.isdecimal, numbers)):
            if (lease := self._try(number)) is not None:
                lease.release()
        self.directory.sweep()

    def give_back(self, lease: Lease) -> None:
        """Called by `Lease.release`; a number that another holder has by now stays as it is."""
        if lease.name not in self._held:
            return
        self._held.remove(lease.name)
        for name in (f"{lease.number}.json", f"{lease.number}.socket", f"{lease.number}.lock"):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.directory.fd)
        lease.lock.release()

    def _try(self, number: int) -> Lease | None:
        """A lease of this number, with nothing left of its last holder; None where another holds it."""
        lock = self.directory.try_lock(f"{number}.lock")
        if lock is None:
            return None
        uid = None if self.uids is None else self.uids.first_uid + number
        lease = Lease(self, number, uid, lock, f"mvmnix-{number}-{secrets.token_hex(4)}")
        try:
            if not self._left(number) or self._emptied(lease):
                # by its name: closing a second descriptor of it would release the lock
                os.truncate(f"/proc/self/fd/{self.directory.fd}/{number}.lock", 1)
                self._held.add(lease.name)
                return lease
        except BaseException:
            lock.release()
            raise
        lock.release()
        return None

    def _left(self, number: int) -> bool:
        """Whether the last holder of the lock that is held now was killed."""
        size = os.stat(f"{number}.lock", dir_fd=self.directory.fd, follow_symlinks=False).st_size
        return size > 0 or self.directory.exists(f"{number}.json")

    def _emptied(self, lease: Lease) -> bool:
        """End what the last holder left; False when it can't be ended yet."""
        try:
            groups, noted = _noted(self.directory.read(f"{lease.number}.json", _LIMIT))
        except FileNotFoundError:
            groups, noted = (), None
        evicted = [evict(uid) for uid in {lease.uid, noted} if uid is not None and uid != os.geteuid()]
        gone = [control_groups.remove(path) for path in groups]  # each of them, whatever became of the others
        return all(evicted) and all(gone)


def open_pool(state: Directory) -> UidPool:
    """The pool, whose directory the caller closes. Raises MvmnixError for a process of root's."""
    system_user.refuse_root()
    try:
        return user_uid_pool()  # 1
    except (MvmnixError, OSError) as error:
        if isinstance(error, ProcessError) and error.kind not in _REFUSED:
            raise  # it would be another uid than a moment ago
        log.info("jail", "machines keep their caller's uid: %s", error)
    return UidPool(state.child(NAME))  # 2


def user_uid_pool() -> UidPool:
    """A user's pool of subordinate uids (1), one of which was mapped now.

    Raises MvmnixError, OSError where there can be none; ProcessError where a program that maps them fails.
    """
    subordinate = SubordinateIds.find()
    path = user_path()
    if path is None:
        raise MvmnixError(f"uid {os.geteuid()} has no home in the password file", hint="run mvm as a user that has one")
    os.close(subordinate.namespace_of(subordinate.first_uid))
    return UidPool(Directory.create(path), subordinate)


def sweep(state: Directory) -> None:
    """Clean up what supervisors that were killed left, in whichever pool they took their leases from.

    Raises MvmnixError for a process of root's.
    """
    pool = open_pool(state)
    with pool.directory as directory:
        pool.sweep()
        left = [path for path in pool_paths(state.path) if path != directory.path]
    for path in left:
        with suppress(OSError), Directory.open(path) as directory:
            UidPool(directory).sweep()


def _noted(data: bytes) -> tuple[tuple[str, ...], int | None]:
    """The control groups and the uid of a note."""

    def parse(record: Record) -> tuple[tuple[str, ...], int | None]:
        groups = tuple(record.texts("groups"))
        return groups, record.integer("uid", 1, 2**32 - 2) if record.has("uid") else None

    try:
        return read(parse_json(data), "lease", parse)
    except (MalformedError, ValueError):
        return (), None  # written by another version: its groups are found by their processes, if there are any


def evict(uid: int) -> bool:
    """Kill the processes of a uid of a pool, and wait until they are gone; whether they are.

    Those only that are in a user namespace in which theirs is the only uid, as every sandbox's are: other programs give
    subordinate uids away too, and a user may end their processes.
    """
    deadline = time.monotonic() + _PATIENCE
    while found := list(_processes(uid)):
        killed = [pidfd for pid, pidfd in found if procfs.is_alone(pid) and _is_killed(pidfd)]
        poll = select.poll()
        for pidfd in killed:
            poll.register(pidfd, select.POLLIN)
        if killed:
            poll.poll(1000)
        for _, pidfd in found:
            os.close(pidfd)
        if not killed or time.monotonic() > deadline:
            return False
    return True


def _is_killed(pidfd: int) -> bool:
    """Kill a process; False where that isn't allowed."""
    with suppress(ProcessLookupError):
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except PermissionError:
            return False
    return True


def _processes(uid: int) -> Iterator[tuple[int, int]]:
    """Id and descriptor of each process with this real uid (proc_pid_status(5)) that has not ended.

    One whose first thread has ended shows as a zombie while others run: the descriptor tells (pidfd_open(2)).
    """
    wanted = f"\nUid:\t{uid}\t".encode()
    for process in Path("/proc").glob("[0-9]*"):
        if not _has(process, wanted):
            continue
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(int(process.name))
            # only now is it certain that the number has not gone to another process
            if _has(process, wanted) and not is_readable(pidfd, 0):
                yield int(process.name), pidfd
            else:
                os.close(pidfd)


def _has(process: Path, wanted: bytes) -> bool:
    try:
        return wanted in (process / "status").read_bytes()
    except OSError:
        return False
