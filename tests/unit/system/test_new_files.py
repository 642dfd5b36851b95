"""New files in mvm's own directories: whole at the moment they have their name, and none under a name that is taken."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mvmnix.system.private_dirs import Directory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "kept")) as made:
        yield made


def entries(directory: Directory) -> list[str]:
    return os.listdir(directory.fd)  # noqa: PTH208 - a descriptor


def test_a_new_file_takes_no_name_that_is_taken(directory: Directory, tmp_path: Path) -> None:
    directory.write_new("x", b"first", mode=0o640)
    with pytest.raises(FileExistsError):
        directory.write_new("x", b"second")
    assert (directory.read("x", 9), entries(directory)) == (b"first", ["x"])
    assert stat.S_IMODE(os.stat("x", dir_fd=directory.fd).st_mode) == 0o640
    Path(directory.where("link")).symlink_to(tmp_path / "nothing")
    with pytest.raises(FileExistsError):
        directory.write_new("link", b"second")
    assert not (tmp_path / "nothing").exists()


def test_a_new_file_is_whole_before_it_has_its_name_and_no_sweep_comes_first(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, seen = os.link, list[tuple[bytes, dict[str, int]]]()

    def observed(source: str, name: str, **others: Any) -> None:
        seen.append((directory.read(source, 1 << 20), directory.sweep()))
        link(source, name, **others)

    monkeypatch.setattr(os, "link", observed)
    directory.write_new("x", b"a" * 100_000)
    assert seen == [(b"a" * 100_000, {})]
    assert entries(directory) == ["x"]


@pytest.mark.parametrize("failing", ["fsync", "link"])
def test_a_new_file_that_cannot_be_written_leaves_nothing(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(OSError, match="No space"):
            directory.write_new("x", b"x")
    assert entries(directory) == []
