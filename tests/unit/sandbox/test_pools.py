"""Which pool a command's sandboxes take their uids from: one for each user, or none; and none for root."""

import os
import pwd
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.sandbox import uid_pool
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.system.child_causes import Cause
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import Completed, ProcessError

SOME = SubordinateIds(3_000_032_768, 3_000_132_768, 16, "/usr/bin/newuidmap", "/usr/bin/newgidmap")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "state/mvmnix")) as directory:
        yield directory


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user whose home in the password file is one of the test's."""
    (tmp_path / "home").mkdir()
    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(os, "getresuid", lambda: (4711, 4711, 4711))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((*entry[:5], str(tmp_path / "home"), *entry[6:])))


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
    assert uid_pool.are_swept(state.path)


def test_what_was_left_in_either_is_swept(state: Directory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As when a user got subordinate uids between two machines."""
    has_subordinate(monkeypatch)
    assert uid_pool.are_swept(state.path)
    places = [state.where("cells"), str(tmp_path / "home/.local/state/mvmnix/uids")]
    for place in places:
        with Directory.create(place) as left:
            left.write_atomic("3.lock", b"x")
        assert not uid_pool.are_swept(state.path)
    uid_pool.sweep(state)
    assert uid_pool.are_swept(state.path)
    for place in places:
        assert os.listdir(place) == []  # noqa: PTH208


def test_as_many_as_there_are(state: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    has_subordinate(monkeypatch)
    pool = uid_pool.open_pool(state)
    with pool.directory:
        leases = [pool.take() for _ in range(SOME.count)]
        with pytest.raises(MvmnixError, match="all 16 numbers"):
            pool.take()
        for lease in leases:
            lease.release()


@pytest.mark.parametrize("uids", [(0, 0, 0), (0, 4711, 4711), (4711, 4711, 0)])
def test_root_has_none(state: Directory, monkeypatch: pytest.MonkeyPatch, uids: tuple[int, int, int]) -> None:
    """A program of root's that uses the application becomes a system user first."""
    monkeypatch.setattr(os, "getresuid", lambda: uids)
    with pytest.raises(MvmnixError, match="this process is root's") as caught:
        uid_pool.open_pool(state)
    assert "become_system_user" in caught.value.hint
