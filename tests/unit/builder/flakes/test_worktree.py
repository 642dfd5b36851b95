"""A flake as it lies there, and the one file that is written back."""

import errno
import os
from pathlib import Path

import pytest

from mvmnix.builder.flakes.flake_source import FlakeSource, take_flake
from mvmnix.builder.flakes.worktree import Draft
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import nar
from mvmnix.model import FlakeRef
from tests.fakes import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "repo", {"a": "a\n", "sub/flake.nix": "{ }\n"})


def source(where: Path | str, lock: bytes | None = None) -> FlakeSource:
    with Draft(FlakeRef.parse(str(where))) as draft:
        return draft.source(lock)


def refused(where: Path | str) -> str:
    with pytest.raises(RefusedError) as refusal:
        Draft(FlakeRef.parse(str(where)))
    assert refusal.value.codes == (Code.FLAKE_UNSUPPORTED,)
    assert refusal.value.reasons[0].hint
    return refusal.value.message


def test_a_clean_work_tree_is_its_commit(repository: Repository) -> None:
    assert source(repository.path).archive == take_flake(FlakeRef(str(repository.path))).archive
    assert source(repository.path / "sub").directory == "sub"


def test_tracked_files_are_taken_as_they_lie_there(repository: Repository) -> None:
    repository.write("a", "changed\n")
    repository.write("flake.lock", "{}")
    repository.write("untracked", "x")
    found = source(repository.path)
    assert found.commit is None
    assert found.lock is None, "git does not track it yet"
    sub = nar.Dir({b"flake.nix": nar.File.of(b"{ }\n")})
    files: dict[bytes, nar.Node] = {b"flake.nix": nar.File.of(b"{}\n"), b"a": nar.File.of(b"changed\n"), b"sub": sub}
    assert found.archive == b"".join(nar.nar_of_tree(nar.Dir(files)))
    repository.git("add", "flake.lock")
    assert source(repository.path).lock == b"{}"


def test_no_commit_is_needed(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    made.git("init", "-q")
    made.write("flake.nix", "{}")
    assert "git add flake.nix" in refused(tmp_path)
    made.git("add", "flake.nix")
    assert source(tmp_path).directory == ""


def test_a_copy_has_all_files(repository: Repository) -> None:
    repository.write("untracked", "x")
    reference = f"path:{repository.path}?dir=sub"
    assert source(reference).archive == take_flake(FlakeRef.parse(reference)).archive


def test_a_tree_with_another_lock(repository: Repository) -> None:
    with Draft(FlakeRef(str(repository.path / "sub"))) as draft:
        changed = draft.source(b"locked")
        draft.write(b"locked")
    assert (changed.lock, changed.nar) == (b"locked", Digest.of(changed.archive))
    repository.git("add", "sub/flake.lock")
    assert source(repository.path / "sub").archive == changed.archive


def test_the_lock_is_written_beside_the_flake_and_nothing_else(repository: Repository) -> None:
    before = set(repository.path.rglob("*"))
    with Draft(FlakeRef(str(repository.path / "sub"))) as draft:
        where = draft.write(b"one")
        assert draft.write(b"two") == where == draft.lock_path
    assert where == repository.path / "sub/flake.lock"
    assert where.read_bytes() == b"two"
    assert {it for it in repository.path.rglob("*") if ".git" not in it.parts} - before == {where}
    umask = os.umask(0)
    os.umask(umask)
    assert where.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo"])
def test_what_is_no_plain_file_is_not_replaced(repository: Repository, tmp_path: Path, kind: str) -> None:
    lock, elsewhere = repository.path / "flake.lock", tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    with Draft(FlakeRef(str(repository.path))) as draft:
        match kind:
            case "link":
                lock.symlink_to(elsewhere)
            case "dangling":
                lock.symlink_to("nowhere")
            case "directory":
                lock.mkdir()
            case _:
                os.mkfifo(lock)
        with pytest.raises(RefusedError, match="not a plain file"):
            draft.write(b"x")
    assert "not a plain file" in refused(repository.path)
    assert elsewhere.read_text() == "mine"
    assert not [it for it in repository.path.iterdir() if it.name.endswith(".tmp")]


def test_the_lock_is_not_written_where_a_link_leads(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with Draft(FlakeRef.parse(f"path:{repository.path}?dir=sub")) as draft:
        (repository.path / "sub").rename(repository.path / "moved")
        (repository.path / "sub").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UsageError, match="symbolic link"):
            draft.write(b"x")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_write_that_fails_leaves_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with Draft(FlakeRef(str(repository.path))) as draft:
        monkeypatch.setattr(os, "rename", fail)
        with pytest.raises(UsageError, match="no room"):
            draft.write(b"x")
    assert not [it for it in repository.path.iterdir() if it.name.endswith(".tmp")]


def test_where_no_flake_is(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    assert "not a git work tree" in refused(tmp_path / "bare")
    repository.git("rm", "-q", "--cached", "sub/flake.nix")
    assert "git tracks no flake.nix" in refused(repository.path / "sub")
    with pytest.raises(MvmnixError, match="is not a directory"):
        Draft(FlakeRef(str(tmp_path / "nothing")))


def test_a_submodule_is_refused(repository: Repository, tmp_path: Path) -> None:
    other = Repository.make(tmp_path / "other")
    repository.git("submodule", "add", "-q", str(other.path), "module")
    assert "submodule" in refused(repository.path)


def test_a_directory_with_unusual_characters_is_refused(repository: Repository) -> None:
    repository.write("a b/flake.nix", "{}")
    repository.commit()
    assert "unusual characters" in refused(repository.path / "a b")
