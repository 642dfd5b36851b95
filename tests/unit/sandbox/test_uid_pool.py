"""The uid pool: one lease for each sandbox, none for two, and what a killed holder leaves is cleaned up first.

A user has one pool of subordinate uids, or none; and root none.
"""

import os
import pwd
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import override

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import canonical
from mvmnix.sandbox import uid_pool, uid_pool_paths
from mvmnix.sandbox.entry import NamespaceEntry
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.uid_pool import Lease, UidPool, evict
from mvmnix.system.child_causes import Cause
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import Completed, ProcessError, spawn
from tests.patience import until

SOME = SubordinateIds(3_000_032_768, 3_000_132_768, 16, "/usr/bin/newuidmap", "/usr/bin/newgidmap")


def last_uid() -> SubordinateIds:
    """The last one that this user's machines may have, alone: no machine that runs has it."""
    found = SubordinateIds.find()
    last = found.count - 1
    return replace(found, first_uid=found.first_uid + last, first_gid=found.first_gid + last, count=1)


class Lent(UidPool):
    """A pool that takes back in the end what a test took."""

    def __init__(self, directory: Directory, uids: SubordinateIds | None) -> None:
        super().__init__(directory, uids)
        self.taken: list[Lease] = []

    @override
    def take(self, *, own_uid: bool = True) -> Lease:
        self.taken.append(super().take(own_uid=own_uid))
        return self.taken[-1]


@contextmanager
def pool_in(path: Path, uids: SubordinateIds | None = None) -> Iterator[UidPool]:
    """The pool in a directory, and nothing of it left open."""
    with Directory.create(str(path)) as directory:
        lent = Lent(directory, uids)
        yield lent
        for lease in lent.taken:
            lease.release()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[UidPool]:
    with pool_in(tmp_path / "cells", SOME) as it:
        yield it


def test_each_has_a_number_a_uid_and_a_name_of_its_own(pool: UidPool) -> None:
    one, other = pool.take(), pool.take()
    assert (one.number, one.uid, other.number, other.uid) == (0, 3_000_032_768, 1, 3_000_032_769)
    assert one.name != other.name
    one.release()
    again = pool.take()
    assert again.number == 0
    assert again.name != one.name, "what belonged to the last holder may still be there"
    one.release()  # does nothing to the next holder's
    assert pool.take().number == 2


def test_without_subordinate_ids_there_are_no_uids(tmp_path: Path) -> None:
    with pool_in(tmp_path / "cells") as pool:
        assert pool.take().uid is None


def test_nothing_is_left_of_a_lease_that_was_given_back(pool: UidPool) -> None:
    lease = pool.take()
    lease.note(["/proc/nonexistent/group"])
    assert len(os.listdir(pool.directory.fd)) == 2  # noqa: PTH208
    lease.release()
    assert os.listdir(pool.directory.fd) == []  # noqa: PTH208


def test_when_all_are_taken(pool: UidPool) -> None:
    pool.uids = replace(SOME, count=2)
    pool.take()
    pool.take()
    with pytest.raises(MvmnixError, match="all 2 numbers") as caught:
        pool.take()
    assert pool.directory.path in caught.value.hint


HOLDER = """
import sys
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.system.private_dirs import Directory
lease = UidPool(Directory.create(sys.argv[1])).take()
lease.note([sys.argv[2]])
print(lease.number, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("does", ["take", "sweep"])
def test_what_a_killed_holder_left_goes_before_anybody_moves_in(tmp_path: Path, does: str) -> None:
    group = tmp_path / "group"
    group.mkdir()
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "cells"), str(group)]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"0\n"
    with pool_in(tmp_path / "cells") as pool:
        pool.sweep()
        assert group.exists(), "its holder lives"
        beside = pool.take()
        assert beside.number == 1
        holder.kill()
        holder.communicate()
        if does == "take":
            assert pool.take().number == 0
        else:
            beside.release()
            pool.sweep()
            assert os.listdir(pool.directory.fd) == []  # noqa: PTH208
        assert not group.exists()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The uids whose processes were ended."""
    found: list[int] = []

    def evict(uid: int) -> bool:
        found.append(uid)
        return True

    monkeypatch.setattr(uid_pool, "evict", evict)
    return found


def test_a_subordinate_uid_is_emptied_by_who_has_none_any_more(tmp_path: Path, ended: list[int]) -> None:
    """Its holder was killed, and the user has other ids now, or may map none."""
    with Directory.create(str(tmp_path / "cells")) as directory:
        lease = UidPool(directory, SOME).take()
        lease.note([])
        note = directory.read("0.json", 1000)
        lease.release()
        for left in (UidPool(directory), UidPool(directory, replace(SOME, first_uid=3_000_100_000))):
            directory.write_atomic("0.json", note)
            ended.clear()
            left.sweep()
            assert 3_000_032_768 in ended
            assert os.listdir(directory.fd) == []  # noqa: PTH208


def test_no_note_ends_the_callers_own_processes(tmp_path: Path, ended: list[int]) -> None:
    with Directory.create(str(tmp_path / "cells")) as directory:
        for uid in (os.geteuid(), 4711):
            directory.write_atomic("0.json", canonical({"groups": [], "uid": uid}))
            UidPool(directory).sweep()
    assert set(ended) == {4711}


@pytest.mark.parametrize("garbage", [b"", b"{}", b'{"groups":7}', b"\xff"])
def test_a_note_that_nobody_wrote_keeps_nobody_out(pool: UidPool, garbage: bytes) -> None:
    pool.directory.write_atomic("0.json", garbage)
    pool.sweep()
    assert os.listdir(pool.directory.fd) == []  # noqa: PTH208


def test_a_lock_that_nobody_holds_goes_too(pool: UidPool) -> None:
    pool.directory.write_atomic("7.lock", b"")
    taken = pool.take()
    pool.sweep()
    assert os.listdir(pool.directory.fd) == [f"{taken.number}.lock"]  # noqa: PTH208


def test_processes_of_a_leases_uid_are_ended() -> None:
    found = last_uid()
    namespace = found.namespace_of(found.first_uid)
    entry = NamespaceEntry(namespace, found.first_uid)
    left = [spawn(("/bin/sleep", "1000"), env={}, before_exec=entry.enter_or_exit) for _ in range(3)]
    os.close(namespace)
    assert evict(found.first_uid)
    assert [process.wait() for process in left] == [-signal.SIGKILL] * 3
    assert evict(found.first_uid)


UNNOTED = """
import os, sys
from mvmnix.sandbox.entry import NamespaceEntry
from mvmnix.system.process import spawn
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.system.private_dirs import Directory
from tests.unit.sandbox.test_uid_pool import last_uid
lease = UidPool(Directory.create(sys.argv[1]), last_uid()).take()
null = os.open(os.devnull, os.O_RDWR)
entry = NamespaceEntry(lease.namespace(), lease.uid)
left = spawn(("/bin/sleep", "1000"), env={}, stdout=null, stderr=null, before_exec=entry.enter_or_exit)
print(left.pid, flush=True)
sys.stdin.read()
"""


def test_a_killed_holder_needs_no_note(tmp_path: Path) -> None:
    """Its lock file says enough, where it was killed before it wrote anything else."""
    argv = [sys.executable, "-c", UNNOTED, str(tmp_path / "cells")]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    left = os.pidfd_open(int(holder.stdout.readline()))
    holder.kill()
    holder.communicate()
    found = last_uid()
    with pool_in(tmp_path / "cells", found) as leases:
        assert not select.select([left], [], [], 0)[0], "it outlives its holder"
        assert leases.take().uid == found.first_uid
        assert select.select([left], [], [], 0)[0], "and is gone before the uid is given away"
    os.close(left)


def test_other_programs_processes_of_a_uid_are_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's, for one: its user namespace has more uids than one."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        monkeypatch.setattr(uid_pool, "_processes", lambda _: [(process.pid, os.pidfd_open(process.pid))])
        try:
            assert not evict(4711)
            assert process.poll() is None
        finally:
            process.kill()


def test_a_process_whose_first_thread_has_ended_still_counts() -> None:
    """It shows as a zombie."""
    code = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); "
    with subprocess.Popen([sys.executable, "-c", code + "ctypes.CDLL(None).syscall(60, 0)"]) as process:
        try:
            until(lambda: "\nState:\tZ" in Path(f"/proc/{process.pid}/status").read_text())
            found = dict(uid_pool._processes(os.geteuid()))
            assert process.pid in found
            for pidfd in found.values():
                os.close(pidfd)
        finally:
            process.kill()


# -- which pool it is


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user whose home in the password file is one of the test's."""
    (tmp_path / "home").mkdir()
    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(os, "getresuid", lambda: (4711, 4711, 4711))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((*entry[:5], str(tmp_path / "home"), *entry[6:])))


@pytest.fixture
def state(plain: None, tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "state/mvmnix")) as directory:
        yield directory


def has_subordinate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SubordinateIds, "find", classmethod(lambda _: SOME))
    monkeypatch.setattr(SubordinateIds, "namespace_of", lambda *_: os.open("/dev/null", os.O_RDONLY))


def has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: type[SubordinateIds]) -> SubordinateIds:
        raise MvmnixError("ada has none", hint="")

    monkeypatch.setattr(SubordinateIds, "find", classmethod(find))


def test_subordinate_uids_are_the_users_in_every_state_directory(
    state: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_subordinate(monkeypatch)
    with Directory.create(str(tmp_path / "other/mvmnix")) as other:
        one, two = uid_pool.open_pool(state), uid_pool.open_pool(other)
        with one.directory, two.directory:
            assert one.directory.path == two.directory.path == str(tmp_path / "home/.local/state/mvmnix/uids")
            leases = [one.take(), two.take()]
            assert [lease.uid for lease in leases] == [3_000_032_768, 3_000_032_769]
            for lease in leases:
                lease.release()
    assert os.listdir(state.fd) == []  # noqa: PTH208


@pytest.mark.parametrize(("kind", "falls_back"), [(Cause.OWN, True), (Cause.LATE, False), (Cause.KILLED, False)])
def test_only_a_no_of_newuidmap_leaves_machines_with_the_callers_uid(
    state: Directory, monkeypatch: pytest.MonkeyPatch, kind: Cause, falls_back: bool
) -> None:
    """A busy moment doesn't: the wall would be a lower one than a moment ago."""
    has_subordinate(monkeypatch)

    def namespace_of(*_: object) -> int:
        raise ProcessError(Completed(("/usr/bin/newuidmap",), 1, b"", b"newuidmap: no\n"), kind=kind)

    monkeypatch.setattr(SubordinateIds, "namespace_of", namespace_of)
    if falls_back:
        with closing(uid_pool.open_pool(state).directory) as directory:
            assert directory.path == state.where("cells")
        return
    with pytest.raises(ProcessError):
        uid_pool.open_pool(state)


def test_a_server_of_files_keeps_its_callers_uid(state: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files can't be given to another uid."""
    has_subordinate(monkeypatch)
    pool = uid_pool.open_pool(state)
    with pool.directory:
        one, other = pool.take(own_uid=False), pool.take()
        assert (one.uid, one.number, other.uid) == (None, 0, 3_000_032_769)
        one.release()
        other.release()


def test_without_subordinate_uids(state: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    has_none(monkeypatch)
    pool = uid_pool.open_pool(state)
    with pool.directory:
        assert (pool.directory.path, pool.take().uid) == (state.where("cells"), None)


def test_without_a_home(state: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    has_subordinate(monkeypatch)

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(MvmnixError, match="no home in the password file"):
        uid_pool.user_uid_pool()
    with closing(uid_pool.open_pool(state).directory) as directory:
        assert directory.path == state.where("cells")
    assert uid_pool_paths.are_swept(state.path)


def test_what_was_left_in_either_is_swept(state: Directory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As when a user got subordinate uids between two machines."""
    has_subordinate(monkeypatch)
    assert uid_pool_paths.are_swept(state.path)
    places = [state.where("cells"), str(tmp_path / "home/.local/state/mvmnix/uids")]
    for place in places:
        with Directory.create(place) as left:
            left.write_atomic("3.lock", b"x")
        assert not uid_pool_paths.are_swept(state.path)
    uid_pool.sweep(state)
    assert uid_pool_paths.are_swept(state.path)
    for place in places:
        assert os.listdir(place) == []  # noqa: PTH208


@pytest.mark.parametrize("uids", [(0, 0, 0), (0, 4711, 4711), (4711, 4711, 0)])
def test_root_has_none(state: Directory, monkeypatch: pytest.MonkeyPatch, uids: tuple[int, int, int]) -> None:
    """A program of root's that uses the application becomes a system user first."""
    monkeypatch.setattr(os, "getresuid", lambda: uids)
    with pytest.raises(MvmnixError, match="this process is root's") as caught:
        uid_pool.open_pool(state)
    assert "become_system_user" in caught.value.hint
