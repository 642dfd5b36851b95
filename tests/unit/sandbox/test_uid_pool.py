"""The uid pool: one lease for each sandbox, none for two, and what a killed holder leaves is cleaned up first."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import override

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.private_dirs import Directory
from mvmnix.privileges import ids
from mvmnix.sandbox.uid_pool import Lease, UidPool, evict
from mvmnix.strict import canonical


class Lent(UidPool):
    """A pool that takes back in the end what a test took."""

    def __init__(self, directory: Directory, *, first_uid: int | None) -> None:
        super().__init__(directory, first_uid=first_uid)
        self.taken: list[Lease] = []

    @override
    def take(self, *, own_uid: bool = True) -> Lease:
        self.taken.append(super().take(own_uid=own_uid))
        return self.taken[-1]


@contextmanager
def pool_in(path: Path, *, first_uid: int | None = None) -> Iterator[UidPool]:
    """The pool in a directory, and nothing of it left open."""
    with Directory.create(str(path)) as directory:
        lent = Lent(directory, first_uid=first_uid)
        yield lent
        for lease in lent.taken:
            lease.release()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[UidPool]:
    with pool_in(tmp_path / "cells", first_uid=1_950_000_000) as it:
        yield it


def test_each_has_a_number_a_uid_and_a_name_of_its_own(pool: UidPool) -> None:
    one, other = pool.take(), pool.take()
    assert (one.number, one.uid, other.number, other.uid) == (0, 1_950_000_000, 1, 1_950_000_001)
    assert one.name != other.name
    one.release()
    again = pool.take()
    assert again.number == 0
    assert again.name != one.name, "what belonged to the last holder may still be there"
    one.release()  # does nothing to the next holder's
    assert pool.take().number == 2


def test_without_root_there_are_no_uids(tmp_path: Path) -> None:
    with pool_in(tmp_path / "cells") as pool:
        assert pool.take().uid is None


def test_nothing_is_left_of_a_lease_that_was_given_back(pool: UidPool) -> None:
    lease = pool.take()
    lease.note(["/nonexistent/group"])
    assert len(os.listdir(pool.directory.fd)) == 2  # noqa: PTH208
    lease.release()
    assert os.listdir(pool.directory.fd) == []  # noqa: PTH208


def test_when_all_are_taken(pool: UidPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "POOL_COUNT", 2)
    pool.take()
    pool.take()
    with pytest.raises(MvmnixError, match="all 2 numbers") as caught:
        pool.take()
    assert pool.directory.path in caught.value.hint


HOLDER = """
import sys
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.private_dirs import Directory
lease = UidPool(Directory.create(sys.argv[1]), first_uid=None).take()
lease.note([sys.argv[2]])
print(lease.number, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_holder_left_goes_before_anybody_moves_in(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "cells"), str(group)]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"0\n"
    with pool_in(tmp_path / "cells") as pool:
        pool.sweep()
        assert group.exists(), "its holder lives"
        assert pool.take().number == 1
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        lease = pool.take()
        assert lease.number == 0
        assert not group.exists()


def test_sweeping_leaves_nothing(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "cells"), str(group)]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with Directory.create(str(tmp_path / "cells")) as directory:
        UidPool(directory, first_uid=None).sweep()
    assert list((tmp_path / "cells").iterdir()) == []
    assert not group.exists()


@pytest.mark.root("what root's pool does with root's rights")
def test_a_note_lets_root_remove_and_kill_nothing_else(pool: UidPool, tmp_path: Path) -> None:
    """Notes of root's pool are written without root's rights: a process of mvm's that was taken over writes any."""
    victim = subprocess.Popen(["/bin/sleep", "60"])
    try:
        (tmp_path / "cgroup.procs").write_text(f"{victim.pid}\n")
        (tmp_path / "empty").mkdir()
        pool.directory.write_atomic("0.json", canonical({"groups": [str(tmp_path), str(tmp_path / "empty"), "/sys"]}))
        assert pool.take().number == 0, "nor does it keep anybody out"
        assert victim.poll() is None
        assert (tmp_path / "empty").exists()
    finally:
        victim.kill()
        victim.wait()


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


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells").chmod(0o777)
    with pytest.raises(RefusedError) as caught:
        Directory.create(str(tmp_path / "cells"))
    assert caught.value.codes == (ReasonCode.STATE_PERMISSIONS,)


@pytest.mark.root("only root can start a process of another uid")
def test_processes_of_a_leases_uid_are_ended() -> None:
    uid = 1_950_000_000 + os.getpid()
    left = [subprocess.Popen(["sleep", "1000"], user=uid, group=uid, extra_groups=[]) for _ in range(3)]
    assert evict(uid)
    assert [process.wait(10) for process in left] == [-signal.SIGKILL] * 3
    assert evict(uid)


UNNOTED = """
import subprocess, sys
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.private_dirs import Directory
lease = UidPool(Directory.create(sys.argv[1]), first_uid=int(sys.argv[2])).take()
quiet = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
left = subprocess.Popen(["sleep", "1000"], user=lease.uid, group=lease.uid, extra_groups=[], **quiet)
print(left.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.root("only root can start a process of another uid")
def test_a_killed_holder_needs_no_note(tmp_path: Path) -> None:
    """Its lock file says enough: a helper's holder writes nothing else."""
    first = 1_960_000_000 + os.getpid()
    argv = [sys.executable, "-c", UNNOTED, str(tmp_path / "cells"), str(first)]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    left = os.pidfd_open(int(holder.stdout.readline()))
    holder.kill()
    holder.communicate()
    with pool_in(tmp_path / "cells", first_uid=first) as leases:
        assert not select.select([left], [], [], 0)[0], "it outlives its holder"
        assert leases.take().uid == first
        assert select.select([left], [], [], 0)[0], "and is gone before the uid is given away"
    os.close(left)
