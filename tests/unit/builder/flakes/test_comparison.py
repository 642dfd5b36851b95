"""What a work tree and an index are compared with: each file of the commit, by its bytes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvmnix.builder.flakes import git
from mvmnix.builder.flakes.comparison import Comparison
from mvmnix.builder.flakes.git import read_work_tree
from mvmnix.builder.flakes.git_objects import TreeEntry
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from tests.fakes import Repository
from tests.patience import EVENT_PATIENCE

LIMIT = 1 << 20
#: A commit's files: by their paths, mode and content.
FILES: dict[str, tuple[int, bytes]] = {
    "a": (0o100644, b"a\n"),
    "link": (0o120000, b"sub/b"),
    "sub/b": (0o100755, b"b\n"),
    "sub/deep/c": (0o100664, b""),
    "z": (0o100644, b"z" * 100_000),
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    for name, (mode, content) in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == 0o120000:
            path.symlink_to(os.fsdecode(content))
        else:
            path.write_bytes(content)
            path.chmod(0o744 if mode & 0o100 else 0o640)
    return top


def is_same(top: Path) -> bool:
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        with Comparison(fd) as comparison:
            for name, (mode, content) in FILES.items():
                comparison.add(TreeEntry(mode, "0" * 40, tuple(name.encode().split(b"/"))), content)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        return comparison.is_same
    finally:
        os.close(fd)


def replace_by_link(path: Path) -> None:
    moved = path.with_name(f"{path.name}-moved")
    path.rename(moved)
    path.symlink_to(moved.name)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


#: Changes of a work tree, by what they do to its top.
CHANGES: dict[str, Callable[[Path], object]] = {
    "other bytes": lambda top: (top / "a").write_bytes(b"b\n"),
    "other bytes at the end": lambda top: (top / "z").write_bytes(b"z" * 99_999 + b"a"),
    "more bytes": lambda top: (top / "sub/deep/c").write_bytes(b"c"),
    "fewer bytes": lambda top: (top / "z").write_bytes(b"z" * 99_999),
    "executable": lambda top: (top / "a").chmod(0o744),
    "not executable": lambda top: (top / "sub/b").chmod(0o655),
    "gone": lambda top: (top / "a").unlink(),
    "not readable": lambda top: (top / "a").chmod(0),
    "another target": lambda top: replace(top / "link", lambda path: path.symlink_to("sub/deep/c")),
    "a file for a link": lambda top: replace(top / "link", lambda path: path.write_bytes(b"sub/b")),
    "a link for a file": lambda top: replace_by_link(top / "a"),
    "a link for a directory": lambda top: replace_by_link(top / "sub"),
    "a link for an inner directory": lambda top: replace_by_link(top / "sub/deep"),
    "a FIFO": lambda top: replace(top / "a", os.mkfifo),
    "a directory": lambda top: replace(top / "a", Path.mkdir),
    "a file for a directory": lambda top: [(top / "sub").rename(top / "other"), (top / "sub").write_bytes(b"")],
}


def test_a_work_tree_with_the_same_files(top: Path) -> None:
    (top / "sub/untracked").touch()
    assert is_same(top)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_work_tree(top: Path, change: str) -> None:
    CHANGES[change](top)
    assert not is_same(top)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One whose index has another order than a walk through its directories."""
    files = {"a/b": "1", "a-b": "2", "a.b": "3\n", "caf\xe9 \n": "4", "run": "#!/bin/sh\n"}
    repository = Repository.make(tmp_path / "repo", files)
    (repository.path / "run").chmod(0o755)
    (repository.path / "link").symlink_to("run")
    repository.commit()
    return repository


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The scripts that ran in a sandbox of their own, beside conversations."""
    scripts: list[str] = []
    script = Sandbox.script

    def counted(self: Sandbox, text: str, *arguments: str) -> object:
        scripts.append(text)
        return script(self, text, *arguments)

    monkeypatch.setattr(Sandbox, "script", counted)
    yield scripts


def test_a_clean_tree_takes_one_sandbox(repository: Repository, scripts: list[str]) -> None:
    assert read_work_tree(repository.path, LIMIT).changes == ()
    assert not scripts


@pytest.mark.parametrize("is_staged", [False, True])
def test_git_tells_what_changed(repository: Repository, scripts: list[str], *, is_staged: bool) -> None:
    repository.write("a-b", "5")
    if is_staged:
        repository.git("add", "-A")
        repository.write("a-b", "2")
    assert read_work_tree(repository.path, LIMIT).changes == ("a-b",)
    assert len(scripts) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("rm", "--cached", "-q", "a.b"),
        ("update-index", "--chmod=+x", "a.b"),
        ("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},a.b"),
    ],
)
def test_an_index_that_differs(repository: Repository, words: tuple[str, ...]) -> None:
    """The work tree is the commit's all the while."""
    repository.git(*words)
    assert read_work_tree(repository.path, LIMIT).changes == ("a.b",)


def test_a_merge_that_is_not_finished(repository: Repository) -> None:
    oid = repository.git("rev-parse", "HEAD:a.b")
    lines = "".join(f"100644 {oid} {stage}\ta.b\n" for stage in (1, 2, 3))
    repository.git("update-index", "--index-info", input_=f"0 {'0' * 40}\ta.b\n{lines}".encode())
    assert read_work_tree(repository.path, LIMIT).changes == ("a.b",)


def test_lines_that_end_as_attributes_say_are_no_change(repository: Repository, scripts: list[str]) -> None:
    """Only git knows that; where the bytes are the commit's, it isn't asked, and sees no change that was not made."""
    repository.write(".gitattributes", "a.b text eol=crlf\na-b text\n")
    oid = repository.git("hash-object", "-w", "--stdin", "--no-filters", input_=b"2\r\n")
    repository.commit()
    repository.git("update-index", "--cacheinfo", f"100644,{oid},a-b")
    repository.git("commit", "-q", "-m", "lines")
    (repository.path / "a-b").write_bytes(b"2\r\n")
    assert read_work_tree(repository.path, LIMIT).changes == ()
    assert not scripts

    repository.git("rm", "-q", "-f", "a-b")
    repository.git("commit", "-q", "-m", "none")
    (repository.path / "a.b").unlink()
    repository.git("checkout", "--", "a.b")
    assert (repository.path / "a.b").read_bytes() == b"3\r\n"
    assert read_work_tree(repository.path, LIMIT).changes == ()
    assert len(scripts) == 1


def refused(repository: Repository) -> tuple[str, str]:
    with pytest.raises(RefusedError) as refusal:
        read_work_tree(repository.path, LIMIT)
    assert refusal.value.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    return refusal.value.reasons[0].why, refusal.value.reasons[0].hint


def test_an_index_that_lists_too_much(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_BOUNDS", Bounds(seconds=EVENT_PATIENCE, output=100))
    assert refused(repository) == (
        "its index lists more than 100 bytes of names",
        "make the index anew: git read-tree HEAD",
    )


def test_an_index_that_git_can_t_read(repository: Repository) -> None:
    (repository.path / ".git/index").write_bytes(b"DIRC" + bytes(100))
    why, hint = refused(repository)
    assert why.startswith("git can't compare it with its commit: ")
    assert hint == "git status"
