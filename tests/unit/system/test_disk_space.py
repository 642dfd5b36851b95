"""How much room there is: asked of the file system where a path will be, and told where there is too little."""

import errno
import os
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.system import disk_space


def test_the_file_system_is_asked_for_what_is_not_there_yet(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    low, high = sorted((disk_space.free(str(tmp_path / "not/there")), found.f_bavail * found.f_frsize))
    assert high - low < 1 << 30, "others write meanwhile"
    with pytest.raises(OSError, match=r".+"):
        disk_space.free(f"{tmp_path}/{'x' * 5000}")


@pytest.mark.parametrize(("left", "enough"), [(0, False), (5 << 20, False), ((6 << 20) - 1, False), (6 << 20, True)])
def test_what_needs_more_does_not_begin(monkeypatch: pytest.MonkeyPatch, left: int, enough: bool) -> None:
    monkeypatch.setattr(disk_space, "free", lambda _: left)
    if enough:
        disk_space.require("/state", 6 << 20, "a build")
        return
    with pytest.raises(MvmnixError, match=f"a build needs 6 MiB in /state, where {left >> 20} MiB are free") as caught:
        disk_space.require("/state", 6 << 20, "a build")
    assert "mvm image prune" in caught.value.hint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_failed_write_names_what_is_full(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    room = {"/state": 1 << 20, "/cache": 1 << 40}
    monkeypatch.setattr(disk_space, "free", room.__getitem__)
    told = disk_space.failure(OSError(number, os.strerror(number)), room)
    assert told is not None
    assert told.message == f"a file: {os.strerror(number)}: /state has 1 MiB free"
    named = disk_space.failure(OSError(number, os.strerror(number), "/state/x"), room)
    assert named is not None
    assert named.message.startswith("/state/x: ")


def test_what_cannot_be_asked_is_left_out() -> None:
    assert disk_space.failure(OSError(errno.ENOSPC, "full"), [f"/{'x' * 5000}"]) is None


def test_a_write_that_failed_for_another_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "free", lambda _: 1 << 40)
    assert disk_space.failure(OSError(errno.ENOSPC, "full"), ["/state"]) is None, "/dev/full, say"
    monkeypatch.setattr(disk_space, "free", lambda _: 0)
    assert disk_space.failure(OSError(errno.EACCES, "no"), ["/state"]) is None
