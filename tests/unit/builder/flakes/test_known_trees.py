"""A commit's tree that was taken before is found without git: in a work tree with its very bytes, and in no other."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvmnix.builder.flakes import known_trees
from mvmnix.builder.flakes.flake_source import FlakeSource, FoundFlake, find_flake, take_flake
from mvmnix.builder.flakes.known_trees import Entry, KnownTrees
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import nar
from mvmnix.model import FlakeRef
from mvmnix.sandbox.helper import Sandbox
from mvmnix.system.fs_tree import tree_of_files
from mvmnix.system.private_dirs import Directory
from tests.fakes import Repository
from tests.support.locks import lock_file

LOCK = lock_file({}).decode()
FILES = {"a.txt": "a\n", "a-b": "2", "a/b": "1", "caf\xe9 \n": "4", "sub/flake.nix": "{ }\n", "sub/flake.lock": LOCK}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository.make(tmp_path / "repo", FILES)
    repository.write("run", "#!/bin/sh\n").chmod(0o755)
    (repository.path / "link").symlink_to("a/b")
    repository.commit()
    return repository


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "cache")) as directory:
        yield directory


@pytest.fixture
def known(cache: Directory) -> KnownTrees:
    return KnownTrees(cache)


def take(repository: Repository, known: KnownTrees, where: str = "sub") -> FlakeSource:
    return take_flake(FlakeRef(str(repository.path / where)), known)


def find(repository: Repository, known: KnownTrees, where: str = "sub") -> FoundFlake | None:
    return find_flake(FlakeRef(str(repository.path / where)), known)


def found_from(source: FlakeSource) -> FoundFlake:
    return FoundFlake(source.nar, source.directory, source.lock)


@pytest.mark.parametrize("where", [".", "sub"])
def test_it_is_found_without_git(
    repository: Repository, known: KnownTrees, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(repository, known, where) is None
    taken = take(repository, known)
    monkeypatch.setattr(Sandbox, "talk", pytest.fail)
    monkeypatch.setattr(Sandbox, "script", pytest.fail)
    repository.write("untracked", "new")
    found = find(repository, known, where)
    assert found == FoundFlake(taken.nar, where.removeprefix("."), LOCK.encode() if where == "sub" else None)


def replace_by_link(path: Path) -> None:
    moved = path.with_name(f"{path.name}-moved")
    path.rename(moved)
    path.symlink_to(moved.name)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


#: Changes of a work tree, by what they do to its top.
CHANGES: dict[str, Callable[[Path], object]] = {
    "other bytes": lambda top: (top / "a.txt").write_bytes(b"b\n"),
    "more bytes": lambda top: (top / "a.txt").write_bytes(b"a\nb"),
    "fewer bytes": lambda top: (top / "a.txt").write_bytes(b"a"),
    "executable": lambda top: (top / "a.txt").chmod(0o744),
    "not executable": lambda top: (top / "run").chmod(0o655),
    "gone": lambda top: (top / "a.txt").unlink(),
    "not readable": lambda top: (top / "a.txt").chmod(0),
    "another target": lambda top: replace(top / "link", lambda path: path.symlink_to("a-b")),
    "a file for a link": lambda top: replace(top / "link", lambda path: path.write_bytes(b"a/b")),
    "a link for a file": lambda top: replace_by_link(top / "a.txt"),
    "a link for a directory": lambda top: replace_by_link(top / "a"),
    "a FIFO": lambda top: replace(top / "a.txt", os.mkfifo),
    "a directory": lambda top: replace(top / "a.txt", Path.mkdir),
    "a file for a directory": lambda top: [(top / "a").rename(top / "other"), (top / "a").write_bytes(b"")],
}


@pytest.mark.parametrize("flag", ["", "--assume-unchanged", "--skip-worktree"])
@pytest.mark.parametrize("change", CHANGES)
def test_in_a_work_tree_with_a_change_it_is_not_found(
    repository: Repository, known: KnownTrees, change: str, flag: str
) -> None:
    """Whatever an index says of times and files; each change is one that `take_flake` would look for in the bytes."""
    for name in ("a.txt", "run", "link", "a/b") if flag else ():
        repository.git("update-index", flag, name)
    taken = take(repository, known)
    times = {name: (repository.path / name).lstat().st_mtime_ns for name in ("a.txt", "run", "link")}
    assert find(repository, known) == found_from(taken)
    CHANGES[change](repository.path)
    for name, time in times.items():
        if os.path.lexists(repository.path / name):
            os.utime(repository.path / name, ns=(time, time), follow_symlinks=False)
    assert find(repository, known) is None


@pytest.mark.parametrize(
    "words",
    [
        ("rm", "--cached", "-q", "a.txt"),
        ("update-index", "--chmod=+x", "a.txt"),
        ("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module"),
        ("update-index", "--assume-unchanged", "a.txt"),
        ("commit", "-q", "--allow-empty", "-m", "another"),
        ("checkout", "-q", "--orphan", "another"),
    ],
)
def test_with_another_index_or_commit_it_is_not_found(
    repository: Repository, known: KnownTrees, words: tuple[str, ...]
) -> None:
    """The work tree is the commit's all the while."""
    take(repository, known)
    repository.git(*words)
    assert find(repository, known) is None


def test_what_is_only_staged_is_not_found(repository: Repository, known: KnownTrees) -> None:
    """Index and files are those of a commit that HEAD named before."""
    parent = repository.git("rev-parse", "HEAD^")
    take(repository, known)
    repository.git("reset", "-q", "--soft", parent)
    assert find(repository, known) is None
    with pytest.raises(RefusedError) as refusal:
        take(repository, known, ".")
    assert refusal.value.codes == (ReasonCode.FLAKE_DIRTY,)


@pytest.mark.parametrize("change", ["a change elsewhere", "a sparse checkout"])
def test_what_differs_from_its_commit_is_not_noted(
    repository: Repository, known: KnownTrees, cache: Directory, change: str
) -> None:
    if change == "a sparse checkout":
        repository.git("sparse-checkout", "set", "--cone", "sub")
    else:
        repository.write("a.txt", "changed")
    take(repository, known)
    assert cache.names() == ()


def test_what_was_noted_is_of_hashed_objects(repository: Repository, known: KnownTrees, cache: Directory) -> None:
    repository.plant("blob", b"evil\n", repository.git("rev-parse", "HEAD:a.txt"))
    repository.write("a.txt", "evil\n")
    with pytest.raises(RefusedError):
        take(repository, known)
    assert cache.names() == ()


def name_of(cache: Directory) -> str:
    (name,) = cache.names()
    return name


def entry_of(cache: Directory) -> Entry:
    entry = Entry.parse(cache.read(name_of(cache), 1 << 20))
    assert entry is not None
    return entry


def forge(cache: Directory, **changes: object) -> None:
    entry = entry_of(cache)
    fields = {name: getattr(entry, name) for name in Entry.__slots__}
    cache.write_atomic(name_of(cache), Entry(**(fields | changes)).to_bytes())


@pytest.mark.parametrize(
    "changes",
    [
        {"commit": "0" * 40},
        {"index": Digest("0" * 64)},
        {"digest": Digest("0" * 64)},
        {"size": 3},
        {"paths": ()},
        {"paths": (b"flake.nix",)},
        {"paths": (b"",)},
        {"paths": (b"/etc/passwd",)},
        {"paths": (b"../repo/a.txt",)},
        {"paths": (b"sub/../a.txt",)},
        {"paths": (b"a.txt", b"a.txt/b")},
        {"paths": (b"sub",)},
        {"paths": (b"sub/",)},
    ],
)
def test_an_entry_that_was_changed_finds_nothing(
    repository: Repository, known: KnownTrees, cache: Directory, changes: dict[str, object]
) -> None:
    take(repository, known)
    forge(cache, **changes)
    assert find(repository, known) is None


@pytest.mark.parametrize("change", ["empty", "cut off", "no head", "too large"])
def test_a_broken_entry_finds_nothing_and_is_replaced(
    repository: Repository, known: KnownTrees, cache: Directory, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take(repository, known)
    data = cache.read(name_of(cache), 1 << 20)
    match change:
        case "empty":
            cache.write_atomic(name_of(cache), b"")
        case "cut off":
            cache.write_atomic(name_of(cache), data[:-1])
        case "no head":
            cache.write_atomic(name_of(cache), data.partition(b"\n")[2])
        case _:
            monkeypatch.setattr(known_trees, "_MAX_ENTRY", len(data) - 1)
    assert find(repository, known) is None
    monkeypatch.undo()
    take(repository, known)
    assert find(repository, known) == found_from(taken)


def test_a_forged_entry_still_names_the_bytes_that_are_there(
    repository: Repository, known: KnownTrees, cache: Directory
) -> None:
    """All that it can do: have uncommitted files pass for a commit's."""
    take(repository, known)
    repository.write("a.txt", "evil\n")
    fd = os.open(repository.path, os.O_RDONLY)
    digest, _ = nar.nar_hash(nar.nar_of_tree(tree_of_files(fd, entry_of(cache).paths)))
    os.close(fd)
    forge(cache, digest=digest, size=entry_of(cache).size + 3)
    assert find(repository, known) == FoundFlake(digest, "sub", LOCK.encode())
    repository.write("a.txt", "a\n")
    assert find(repository, known) is None


def test_a_file_that_is_larger_than_all_were_is_not_read(
    repository: Repository, known: KnownTrees, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(repository, known)
    os.truncate(repository.path / "a.txt", 1 << 40)
    monkeypatch.setattr(os, "read", lambda fd, size: pytest.fail() if size > 1 << 20 else os.pread(fd, size, 0))
    assert find(repository, known) is None


def test_what_is_too_long_is_not_noted(
    repository: Repository, known: KnownTrees, cache: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_trees, "_MAX_ENTRY", 200)
    take(repository, known)
    assert cache.names() == ()


def test_a_repository_has_one_entry(repository: Repository, known: KnownTrees, cache: Directory) -> None:
    take(repository, known)
    repository.write("a.txt", "b\n")
    repository.commit()
    taken = take(repository, known)
    assert len(cache.names()) == 1
    assert find(repository, known) == found_from(taken)


def test_a_copy_and_what_has_no_flake_or_repository(repository: Repository, known: KnownTrees, tmp_path: Path) -> None:
    take(repository, known)
    assert find_flake(FlakeRef(str(repository.path / "sub"), copy=True), known) is None
    assert find(repository, known, "a") is None
    assert find(repository, known, "nowhere") is None
    (tmp_path / "plain").mkdir()
    with pytest.raises(RefusedError) as refusal:
        find_flake(FlakeRef(str(tmp_path / "plain")), known)
    assert refusal.value.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
