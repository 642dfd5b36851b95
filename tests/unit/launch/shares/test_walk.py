"""Directories that are walked: each entry once, no link followed, and descriptors in number with the depth alone."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.launch.shares import image
from mvmnix.launch.shares.image import is_small
from mvmnix.launch.shares.opening import is_directory, open_directory, walk
from tests.descriptors import nothing_left_open

#: Levels of a tree that no process could hold open at once.
DEEP = 1500


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path.resolve() / "deep"
    where.mkdir()
    fd = open_directory(str(where))
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    yield where
    subprocess.run(["rm", "-rf", where], check=True)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """As many as a process has by default on many machines, beyond those that this one has open already."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024 + len([*Path("/proc/self/fd").iterdir()]), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def names(where: Path, deepest: int) -> set[str]:
    fd = open_directory(str(where))
    found = ["/".join((*above, entry.name)) for above, entry in walk(fd, deepest)]
    os.close(fd)
    assert len(found) == len(set(found))
    return set(found)


def test_each_entry_to_the_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to("a")
    assert names(tmp_path, 1) == {"a", "link"}
    assert names(tmp_path, 2) == {"a", "link", "a/b", "a/file"}
    assert names(tmp_path, 9) == {"a", "link", "a/b", "a/file", "a/b/c"}


def test_what_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("directory")
    with os.scandir(tmp_path) as found:
        assert {entry.name: is_directory(entry) for entry in found} == {"directory": True, "file": False, "link": False}


def test_a_walk_that_is_given_up_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with nothing_left_open():
        fd = open_directory(str(tmp_path))
        found = walk(fd, 9)
        next(found), next(found)
        found.close()
        os.close(fd)


def test_a_deep_tree_takes_few_descriptors(deep: Path, few_descriptors: None) -> None:
    assert len(names(deep, 100)) == 100
    fd = open_directory(str(deep))
    assert not is_small(fd), "it is served instead"
    os.close(fd)


def test_a_tree_of_ordinary_depth_is_small(tmp_path: Path) -> None:
    (tmp_path / Path(*["d"] * 63)).mkdir(parents=True)
    fd = open_directory(str(tmp_path.resolve()))
    assert is_small(fd)
    (tmp_path / Path(*["d"] * 64)).mkdir()
    assert not is_small(fd)
    os.close(fd)


def test_what_is_small_to_the_entry_and_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "MOST_ENTRIES", 3)
    monkeypatch.setattr(image, "LARGEST", 100)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(50))
    (tmp_path / "link").symlink_to("/usr")
    fd = open_directory(str(tmp_path.resolve()))
    assert is_small(fd)
    (tmp_path / "a").write_bytes(bytes(51))
    assert not is_small(fd), "a byte more"
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "c").mkdir()
    assert not is_small(fd), "an entry more"
    os.close(fd)
