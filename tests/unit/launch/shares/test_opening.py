"""Directories that are opened: no link on the way, and held whatever becomes of their path."""

import os
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.shares import opening
from mvmnix.launch.shares.opening import open_directory, open_share
from mvmnix.plan.share import Share


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


def test_a_closed_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is named: root, who started mvm, may be another one."""

    def closed(path: str) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(opening, "open_directory", closed)
    monkeypatch.setattr(opening, "user_name", lambda _: "ada")
    with pytest.raises(RefusedError) as refused:
        open_share(Share("/srv/theirs", "/data"))
    assert "Permission denied" in refused.value.message
    assert refused.value.hint.startswith("let ada in (chown, chmod), or run mvm as the directory's owner: sudo -u")
