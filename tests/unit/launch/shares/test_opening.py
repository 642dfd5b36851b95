"""Directories that are opened: no link on the way, and held whatever becomes of their path."""

import itertools
import os
from pathlib import Path

import pytest

from mvmnix import caller
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.plan.share import Access, Share
from mvmnix.launch.shares import opening
from mvmnix.launch.shares.opening import open_directory, open_share, refuse_owner
from mvmnix.privileges import ids


@pytest.fixture
def where(tmp_path: Path) -> Path:
    real = tmp_path.resolve() / "a" / "b"
    real.mkdir(parents=True)
    (real.parent / "last").symlink_to("b")
    (real.parent.parent / "first").symlink_to("a")
    (real / "file").write_text("x")
    return real


def test_the_descriptor_stays_with_the_directory(where: Path) -> None:
    fd = open_directory(str(where))
    where.rename(where.parent / "moved")
    where.symlink_to("/etc")
    assert os.listdir(fd) == ["file"]  # noqa: PTH208 - a descriptor
    os.close(fd)


@pytest.mark.parametrize("path", ["last", "../first/b", "b/file", "nothing"])
def test_links_files_and_nothing_are_refused(where: Path, path: str) -> None:
    share = Share(os.path.normpath(where.parent / path), "/data")
    with pytest.raises(RefusedError) as refused:
        open_share(share)
    assert refused.value.codes == (ReasonCode.SHARE_UNAVAILABLE,)
    if path in {"last", "../first/b"}:
        assert f"--share {where}:/data" in refused.value.hint
    elif path == "b/file":
        assert "single files are not shared" in refused.value.reasons[0].why
        assert "a directory of its own" in refused.value.hint


def test_the_root_itself_can_be_opened() -> None:
    fd = open_directory("/")
    assert os.path.samestat(os.fstat(fd), Path("/").stat())
    os.close(fd)


@pytest.mark.parametrize(("uid", "hint"), [(0, "MVMNIX_GRANT"), (0, "chmod a+rx /srv/theirs"), (1000, "let yourself")])
def test_a_closed_directory_is_refused(monkeypatch: pytest.MonkeyPatch, uid: int, hint: str) -> None:
    """Root's mvm has no rights of another user's: letting root in, who may do everything, is no advice."""

    def closed(path: str) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(opening, "open_directory", closed)
    monkeypatch.setattr(caller, "uid", lambda: uid)
    with pytest.raises(RefusedError) as refused:
        open_share(Share("/srv/theirs", "/data"))
    assert "Permission denied" in refused.value.message
    assert hint in refused.value.hint


@pytest.mark.root("root alone gives things away")
def test_under_root_no_directory_of_root_s_is_written(where: Path) -> None:
    read, write = Share(str(where), "/data"), Share(str(where), "/data", Access.READ_WRITE)
    fd = open_directory(str(where))
    os.fchmod(fd, 0o777)
    refuse_owner(read, fd)
    for uid in (0, ids.MVM):  # what mvm was granted looks like its own
        os.fchown(fd, uid, 0)
        with pytest.raises(RefusedError, match="belongs to root") as refused:
            refuse_owner(write, fd)
        assert "chown" in refused.value.hint
    os.fchown(fd, 1234, 0)
    refuse_owner(write, fd)
    (where / "in").mkdir()
    (where / "in").chmod(0o2755)  # whose files get root's group
    with pytest.raises(RefusedError, match="group of root"):
        refuse_owner(write, fd)
    os.fchown(fd, 1234, 77)
    refuse_owner(write, fd)
    os.close(fd)


def gives(where: Path) -> bool:
    fd = open_directory(str(where))
    try:
        return opening.gives_root_group(fd)
    finally:
        os.close(fd)


@pytest.mark.root("root alone gives things away")
@pytest.mark.parametrize("place", [".", "in", "in/in"])
@pytest.mark.parametrize(("mode", "group", "expected"), [(0o2755, 0, True), (0o755, 0, False), (0o2755, 7, False)])
def test_whose_files_get_roots_group(where: Path, place: str, mode: int, group: int, *, expected: bool) -> None:
    (where / "in" / "in").mkdir(parents=True)
    (where / "file").chmod(0o2755)  # of a file the bit means something else
    os.chown(where / "file", 0, 0)
    os.chown(where / place, 1234, group)
    (where / place).chmod(mode)
    assert gives(where) is expected


def test_what_is_too_large_to_tell_counts_as_if(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with os.scandir(where) as found:
        (file,) = found
    for count in (20_000, 20_001):
        monkeypatch.setattr(opening, "walk", lambda *_: itertools.repeat(((), file), count))  # noqa: B023 - called at once
        assert gives(where) is (count > 20_000)


def test_what_is_too_deep_to_tell_counts_as_if(where: Path) -> None:
    last = where.joinpath(*["in"] * 63)
    last.mkdir(parents=True)
    (last / "file").touch()
    assert not gives(where)
    (last / "in").mkdir()
    assert gives(where)


def test_without_root_it_is_the_caller_s_own_right(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    fd = open_directory(str(where))
    refuse_owner(Share(str(where), "/data", Access.READ_WRITE), fd)
    os.close(fd)
