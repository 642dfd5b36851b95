"""Reading directories into trees: nothing is followed, nothing special is opened, changes meanwhile are noticed."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats.nar import Dir, File, Symlink, nar_hash, nar_of_tree
from mvmnix.system.fs_tree import MAX_DEPTH, tree_of_directory, tree_of_files
from tests.descriptors import nothing_left_open


@contextmanager
def tree(path: Path) -> Iterator[Dir]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield tree_of_directory(fd)
    finally:
        os.close(fd)


def test_what_is_there_is_what_is_archived(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"text")
    (tmp_path / "run").write_bytes(b"#!")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "group").write_bytes(b"")
    (tmp_path / "group").chmod(0o654)  # executable, but not for its owner: not executable (nix: archive.cc)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "sub").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "sub") + b"/\xff")).write_bytes(b"x")
    expected = Dir(
        {
            b"plain": File.of(b"text"),
            b"run": File.of(b"#!", executable=True),
            b"group": File.of(b""),
            b"link": Symlink(b"/etc/passwd"),
            b"loop": Symlink(b"loop"),
            b"sub": Dir({b"\xff": File.of(b"x")}),
        }
    )
    with tree(tmp_path) as found:
        assert nar_hash(nar_of_tree(found)) == nar_hash(nar_of_tree(expected))


def test_special_files_are_refused_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "sub" / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(RefusedError) as caught, tree(tmp_path):
            pass
    assert caught.value.codes == (ReasonCode.FLAKE_UNSUPPORTED, ReasonCode.FLAKE_UNSUPPORTED)
    assert {reason.what for reason in caught.value.reasons} == {"socket", "sub/fifo"}


def test_a_well_of_directories_is_refused(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 2):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    with pytest.raises(RefusedError, match="nested deeper") as caught, tree(tmp_path):
        pass
    assert caught.value.codes == (ReasonCode.FLAKE_UNSUPPORTED,)


@pytest.mark.parametrize("change", ["grow", "link", "gone", "parent", "same-size"])
def test_a_tree_that_changes_meanwhile_is_an_error(tmp_path: Path, change: str) -> None:
    file = tmp_path / "d" / "f"
    file.parent.mkdir()
    file.write_bytes(b"data")
    os.utime(file, ns=(1, 1))
    with tree(tmp_path) as found:
        match change:
            case "grow":
                file.write_bytes(b"data+")
            case "same-size":
                file.write_bytes(b"DATA")
            case "gone":
                file.unlink()
            case "link":
                file.unlink()
                file.symlink_to("/etc/passwd")
            case _:
                file.parent.rename(tmp_path / "e")
                (tmp_path / "d").symlink_to("e")
        with pytest.raises(MvmnixError, match="changed meanwhile"):
            nar_hash(nar_of_tree(found))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"1")
    with nothing_left_open(), tree(tmp_path) as found:
        nar_hash(nar_of_tree(found))


def some(path: Path, *names: bytes) -> Dir:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return tree_of_files(fd, names)
    finally:
        os.close(fd)


def test_of_some_files_those_that_are_there_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/run").write_bytes(b"#!")
    (tmp_path / "a/b/run").chmod(0o755)
    (tmp_path / "a/other").write_bytes(b"not asked for")
    os.mkfifo(tmp_path / "a/fifo")
    (tmp_path / "a/link").symlink_to("/etc/passwd")
    taken = some(tmp_path, b"a/b/run", b"a/link", b"gone", b"gone/x", b"a/other/x")
    inner = taken.entries[b"a"]
    assert isinstance(inner, Dir)
    assert (list(taken.entries), list(inner.entries)) == ([b"a"], [b"b", b"link"])
    assert inner.entries[b"link"] == Symlink(b"/etc/passwd")
    run = inner.entries[b"b"]
    assert isinstance(run, Dir)
    assert isinstance(run.entries[b"run"], File)
    assert run.entries[b"run"].executable


def test_of_some_files_a_directory_and_a_fifo_are_refused(tmp_path: Path) -> None:
    (tmp_path / "module").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RefusedError) as refusal:
        some(tmp_path, b"fifo", b"module")
    assert refusal.value.codes == (ReasonCode.FLAKE_UNSUPPORTED, ReasonCode.FLAKE_UNSUPPORTED)
    assert "submodule" in refusal.value.reasons[1].why


def test_of_some_files_none_is_reached_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "away/x").write_bytes(b"x")
    (tmp_path / "top").mkdir()
    (tmp_path / "top/link").symlink_to("../away")
    assert some(tmp_path / "top", b"link/x") == Dir({})
