"""Which repository a directory's `.git` leads to: the user's own, whole, which names the directory back, or none."""

import hashlib
import os
from pathlib import Path

import pytest

from mvmnix.builder.flakes import git_objects
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.builder.flakes.git import read_work_tree, tracked_files
from mvmnix.builder.flakes.repository import found_repository
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.model import FlakeRef
from tests.fakes import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "repo", {"a.txt": "a\n", "sub/b.txt": "b\n"})


def refused(where: Path) -> str:
    with pytest.raises(RefusedError) as refusal:
        take_flake(FlakeRef(str(where)))
    assert refusal.value.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    assert refusal.value.reasons[0].hint
    return refusal.value.reasons[0].why


def test_a_linked_work_tree(repository: Repository, tmp_path: Path) -> None:
    repository.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    linked = Repository(tmp_path / "linked")
    linked.write("new.txt", "new\n")
    commit = linked.commit()
    found = take_flake(FlakeRef(str(linked.path)))
    assert (found.commit, b"new.txt" in found.archive) == (commit, True)
    assert b"new.txt" in tracked_files(linked.path)[1]
    linked.write("new.txt", "changed\n")
    assert read_work_tree(linked.path, 1 << 20).changes == ("new.txt",)


def test_a_submodule_is_a_flake_too(repository: Repository, tmp_path: Path) -> None:
    other = Repository.make(tmp_path / "other", {"x": "x"})
    repository.git("submodule", "add", "-q", str(other.path), "module")
    assert take_flake(FlakeRef(str(repository.path / "module"))).commit == other.git("rev-parse", "HEAD")


@pytest.mark.parametrize(
    "pointer",
    ["gitdir: {other}/.git\n", "gitdir: {other}/.git/worktrees/none\n", "nonsense\n", "", "gitdir: {other}/.git\0/x\n"],
)
def test_a_git_file_is_followed_only_where_it_is_named_back(
    repository: Repository, tmp_path: Path, pointer: str
) -> None:
    """An unpacked archive brings such a file, and names a repository of the user's."""
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked/flake.nix").write_text("{}")
    (tmp_path / "unpacked/.git").write_text(pointer.format(other=repository.path))
    assert ".git" in refused(tmp_path / "unpacked")


def test_a_link_is_no_repository(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked/.git").symlink_to(repository.path / ".git")
    assert "can't be opened as a directory" in refused(tmp_path / "unpacked")


@pytest.mark.parametrize("end", ["\n", "\0/x\n"])
def test_what_it_shares_is_not_elsewhere(repository: Repository, tmp_path: Path, end: str) -> None:
    other = Repository.make(tmp_path / "other")
    (repository.path / ".git/commondir").write_text(f"{other.path}/.git{end}")
    assert "whose linked work tree it isn't" in refused(repository.path)


@pytest.mark.parametrize(
    ("listed", "instead"),
    [("xx/secret", "../secret"), ("xxxxxxxxxxx", "/etc/passwd"), ("xxxxxxxxxxx", ".git/config"), ("a/xxxx", "a/.GIT")],
)
def test_an_index_lists_what_git_would_not_track(repository: Repository, listed: str, instead: str) -> None:
    """Git reads such an index as it is (verify_path is for what is added), and it comes with an unpacked archive."""
    repository.write(listed, "x")
    repository.git("add", listed)
    index = repository.path / ".git/index"
    data = index.read_bytes()[:-20]
    assert listed.encode() in data
    data = data.replace(listed.encode(), instead.encode())
    index.write_bytes(data + hashlib.sha1(data).digest())
    assert instead in repository.git("ls-files")
    with pytest.raises(RefusedError) as refusal:
        tracked_files(repository.path)
    assert refusal.value.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    assert instead in refusal.value.reasons[0].why


def test_objects_that_lie_elsewhere(repository: Repository, tmp_path: Path) -> None:
    repository.git("clone", "-q", "--shared", str(repository.path), str(tmp_path / "shared"))
    assert "lie in another repository" in refused(tmp_path / "shared")


@pytest.mark.root("only root gives files away")
@pytest.mark.parametrize("name", [".", ".git"])
def test_another_users_repository(repository: Repository, name: str) -> None:
    os.chown(repository.path / name, 1234, 1234)
    assert "belongs to uid 1234" in refused(repository.path)
    repository.write("sub/flake.nix", "{ }")
    copy = f"path:{repository.path}?dir=sub"
    with pytest.raises(RefusedError) as refusal:
        take_flake(FlakeRef(str(repository.path / "sub")))
    assert refusal.value.hint.endswith(f"'{copy}'"), "with the rest of its tree, where its inputs may be"
    assert take_flake(FlakeRef.parse(copy)).directory == "sub"


def test_what_only_its_owner_may_read(repository: Repository) -> None:
    """As root, git runs under another uid, and sees the files as their owner does."""
    clean = take_flake(FlakeRef(str(repository.path)))
    for path in (repository.path, *repository.path.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert take_flake(FlakeRef(str(repository.path))) == clean


def test_a_commit_that_is_too_large_is_never_read(repository: Repository) -> None:
    tree = repository.git("rev-parse", "HEAD^{tree}")
    message = b"x" * git_objects.MAX_COMMIT
    body = b"tree %s\nauthor t <t@t> 0 +0000\ncommitter t <t@t> 0 +0000\n\n%s\n" % (tree.encode(), message)
    (repository.path / ".git/HEAD").write_text(repository.plant("commit", body) + "\n")
    assert f"its commit has {len(body)} bytes, more than {git_objects.MAX_COMMIT}" in refused(repository.path)


def test_directories_are_bounded_together(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_objects, "MAX_DIRECTORIES", 100)
    assert "its directories have more than 100 bytes" in refused(repository.path)


def head(where: Path) -> str | None:
    with found_repository(where) as found:
        return found.head()


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("branch", ["main", "v1.0/new_one", ""])
def test_the_commit_of_head_is_read_without_git(repository: Repository, branch: str, *, is_packed: bool) -> None:
    repository.git("checkout", "-q", *(("-B", branch) if branch else ("--detach",)))
    commit = repository.commit()
    if is_packed:
        repository.git("branch", "-f", "other", "HEAD^{commit}")
        repository.git("pack-refs", "--all")
    assert head(repository.path) == commit


def test_a_branch_has_the_commit_of_its_own_file(repository: Repository) -> None:
    repository.git("pack-refs", "--all")
    commit = repository.commit()
    assert head(repository.path) == commit


def test_the_commit_of_a_linked_work_tree(repository: Repository, tmp_path: Path) -> None:
    repository.git("worktree", "add", "-q", str(tmp_path / "linked"))
    commit = Repository(tmp_path / "linked").commit()
    assert head(tmp_path / "linked") == commit
    assert head(repository.path) == repository.git("rev-parse", "HEAD") != commit


@pytest.mark.parametrize(
    "text",
    [
        "ref: refs/heads/other\n",  # which names another branch
        "ref: refs/heads/nothing\n",
        "ref: refs/heads/directory\n",
        "ref: refs/heads/link\n",
        "ref: refs/heads/pipe\n",
        "ref: refs/heads/../heads/main\n",
        "ref: refs/heads/\n",
        "ref: refs/tags/main\n",
        "ref: refs/heads/main",
        f"{'0' * 39}\n",
        "",
    ],
)
def test_of_an_unusual_head_git_is_asked(repository: Repository, text: str) -> None:
    repository.git("checkout", "-q", "-B", "main")
    heads = repository.path / ".git/refs/heads"
    (heads / "other").write_text("ref: refs/heads/main\n")
    (heads / "directory").mkdir()
    (heads / "link").symlink_to("main")
    os.mkfifo(heads / "pipe")
    assert head(repository.path) is not None
    (repository.path / ".git/HEAD").write_text(text)
    assert head(repository.path) is None


def test_of_a_branch_that_is_packed_twice_git_is_asked(repository: Repository) -> None:
    repository.git("checkout", "-q", "-B", "main")
    repository.git("pack-refs", "--all")
    packed = repository.path / ".git/packed-refs"
    packed.write_text(packed.read_text() + f"{'1' * 40} refs/heads/main\n")
    assert head(repository.path) is None


def test_of_refs_that_are_kept_as_reftable_git_is_asked(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "tables")
    repository.path.mkdir()
    repository.git("init", "-q", "--ref-format=reftable")
    repository.write("flake.nix", "{}")
    repository.commit()
    assert head(repository.path) is None


def test_an_index_is_known_by_all_of_its_parts(repository: Repository) -> None:
    def index() -> object:
        with found_repository(repository.path) as found:
            return found.index

    first = index()
    assert index() == first
    repository.git("update-index", "--split-index")
    second = index()
    assert second != first
    (shared,) = (repository.path / ".git").glob("sharedindex.*")
    shared.chmod(0o600)
    shared.write_bytes(shared.read_bytes() + b"\0")
    assert index() != second
