"""A hostile repository: it runs nothing, and what is taken is the tree that the commit's name means, or nothing."""

import os
from pathlib import Path

import pytest

from mvmnix.builder.flakes import git, git_objects
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.builder.flakes.git import read_work_tree
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.model import FlakeRef
from tests.fakes import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "repo", {"a.txt": "a\n", "sub/b.txt": "b\n"})


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """A file that appears when somebody ran the program `tmp_path/evil`."""
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    program.chmod(0o755)
    return tmp_path / "ran"


def unsupported(repository: Repository) -> str:
    with pytest.raises(RefusedError) as refusal:
        take_flake(FlakeRef(str(repository.path)))
    assert refusal.value.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    return refusal.value.reasons[0].why


def aged(repository: Repository) -> None:
    """Every file looks touched, so that git compares contents."""
    for path in repository.path.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (1, 1))


@pytest.mark.parametrize("setting", ["clean", "process"])
@pytest.mark.parametrize("name", ["evil", "e=v.i l"])
@pytest.mark.parametrize("place", [".gitattributes", ".git/info/attributes"])
def test_filters_of_its_configuration_are_not_run(
    repository: Repository, witness: Path, setting: str, name: str, place: str
) -> None:
    if "=" not in name:
        repository.write(place, f"* filter={name}\n")
    repository.git("add", "-A")
    repository.git("commit", "-q", "--allow-empty", "-m", "attributes")
    repository.git("config", f"filter.{name}.{setting}", str(witness.with_name("evil")))
    repository.git("config", f"filter.{name}.smudge", str(witness.with_name("evil")))
    repository.git("config", f"filter.{name}.required", "true")
    aged(repository)
    assert b"flake.nix" in take_flake(FlakeRef(str(repository.path))).archive
    assert not witness.exists()
    # the same repository does run it when git is not told otherwise
    if "=" not in name and setting == "clean":
        repository.git("status", "--porcelain")
        assert witness.exists()


def test_hooks_monitors_and_other_programs_are_not_run(repository: Repository, witness: Path) -> None:
    evil = witness.with_name("evil")
    hooks = repository.path / ".git/hooks"
    for name in ("post-index-change", "reference-transaction", "post-checkout", "fsmonitor-watchman"):
        (hooks / name).write_bytes(evil.read_bytes())
        (hooks / name).chmod(0o755)
    for setting in ("core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "diff.external", "gpg.program"):
        repository.git("config", setting, str(evil))
    repository.git("config", "pager.status", str(evil))
    repository.git("config", "status.submoduleSummary", "true")
    aged(repository)
    witness.unlink(missing_ok=True)
    assert b"flake.nix" in take_flake(FlakeRef(str(repository.path))).archive
    assert not witness.exists()


def test_it_changes_nothing(repository: Repository) -> None:
    aged(repository)

    def state() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in repository.path.rglob("*") if path.is_file()}

    before = state()
    take_flake(FlakeRef(str(repository.path)))
    assert state() == before


def test_attributes_have_no_say_in_what_is_taken(tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "repo", {"a.txt": "$Id$\n", "b.txt": "b\n"})
    repository.write(".gitattributes", "a.txt ident\nb.txt export-ignore text eol=lf\n")
    repository.commit()
    archive = take_flake(FlakeRef(str(repository.path))).archive
    assert b"$Id$\n" in archive
    assert b"b.txt" in archive


def test_our_own_environment_and_configuration_have_no_say(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, witness: Path
) -> None:
    clean = take_flake(FlakeRef(str(repository.path)))
    other = Repository.make(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(witness.with_name("evil")))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(f"[core]\n\tfsmonitor = {witness.with_name('evil')}\n")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")  # by which the tests' own gits leave this file alone
    assert take_flake(FlakeRef(str(repository.path))) == clean
    assert not witness.exists()


def test_a_replaced_object_is_not_taken(repository: Repository) -> None:
    clean = take_flake(FlakeRef(str(repository.path)))
    other = repository.git("hash-object", "-w", "--stdin", input_=b"evil\n")
    repository.git("replace", repository.git("rev-parse", "HEAD:a.txt"), other)
    assert take_flake(FlakeRef(str(repository.path))) == clean


def test_a_file_as_new_as_the_index_is_compared(repository: Repository) -> None:
    """git gets a copy of the index, which has the time of the index itself (git: racy-git)."""
    second = 1_000_000_000
    os.utime(repository.path / "a.txt", (second, second))
    repository.git("add", "--refresh", "a.txt")
    (repository.path / "a.txt").write_text("b\n")
    for path in ("a.txt", ".git/index"):
        os.utime(repository.path / path, (second, second))
    assert read_work_tree(repository.path, 1 << 20).changes == ("a.txt",)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree", ""])
def test_no_index_says_what_is_unchanged(repository: Repository, flag: str) -> None:
    """By a flag, or by the file's time and size; who looks at the directory would see another flake than is built."""
    second = 1_000_000_000
    path = repository.path / "a.txt"
    os.utime(path, (second, second))
    repository.git("add", "--refresh", "a.txt")
    if flag:
        repository.git("update-index", flag, "a.txt")
    path.write_text("b\n")
    os.utime(path, (second, second))
    assert read_work_tree(repository.path, 1 << 20).changes == ("a.txt",)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_no_index_says_that_what_stands_in_for_a_file_is_it(repository: Repository, tmp_path: Path, flag: str) -> None:
    """A link on the way, to where it is and to where it isn't, and a directory; a file that is missing is just that."""
    repository.git("update-index", flag, "sub/b.txt")
    sub = repository.path / "sub"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/b.txt").write_text("c\n")
    (sub / "b.txt").unlink()
    assert read_work_tree(repository.path, 1 << 20).changes == ()
    (sub / "b.txt").mkdir()
    assert read_work_tree(repository.path, 1 << 20).changes == ("sub/b.txt",)
    (sub / "b.txt").rmdir()
    sub.rmdir()
    for target in ("../other", "nowhere"):
        sub.symlink_to(target)
        assert read_work_tree(repository.path, 1 << 20).changes == ("sub/b.txt",)
        sub.unlink()
    sub.touch()
    assert read_work_tree(repository.path, 1 << 20).changes == ("sub/b.txt",)
    sub.unlink()
    assert read_work_tree(repository.path, 1 << 20).changes == ()


def test_a_submodule_of_the_index_alone(repository: Repository) -> None:
    """git would ask it for its commit, by its own configuration."""
    module = Repository.make(repository.path / "a module")
    oid = module.git("rev-parse", "HEAD")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{oid},a module")
    (module.path / ".git/config").write_text("[[[")
    assert read_work_tree(repository.path, 1 << 20).changes == ("a module",)


def test_a_split_index(repository: Repository) -> None:
    repository.git("update-index", "--split-index")
    repository.write("new.txt", "x")
    repository.git("add", "new.txt")
    assert list((repository.path / ".git").glob("sharedindex.*"))
    assert git.tracked_files(repository.path)[1] == (b"a.txt", b"flake.nix", b"new.txt", b"sub/b.txt")
    assert read_work_tree(repository.path, 1 << 20).changes == ("new.txt",)


def test_a_sparse_index(repository: Repository) -> None:
    repository.git("sparse-checkout", "set", "--cone", "--sparse-index")
    assert not (repository.path / "sub").exists()
    assert read_work_tree(repository.path, 1 << 20).changes == ()
    assert b"sub/b.txt" in git.tracked_files(repository.path)[1]


@pytest.mark.parametrize("is_linked", [False, True])
def test_refs_that_are_kept_as_reftable(tmp_path: Path, *, is_linked: bool) -> None:
    repository, where = Repository(tmp_path / "repo"), tmp_path / "repo"
    where.mkdir()
    repository.git("init", "-q", "--ref-format=reftable")
    repository.write("flake.nix", "{}")
    repository.commit()
    if is_linked:
        where = tmp_path / "linked"
        repository.git("worktree", "add", "-q", str(where))
    commit = Repository(where).commit()
    assert take_flake(FlakeRef(str(where))).commit == commit


@pytest.mark.parametrize("name", ["HEAD", "index", "objects", "refs", "packed-refs"])
def test_what_is_a_link_is_not_read(repository: Repository, name: str) -> None:
    repository.git("pack-refs", "--all")
    path = repository.path / ".git" / name
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    assert f"{name} can't be opened" in unsupported(repository)


def test_what_is_not_a_file_is_not_read(repository: Repository) -> None:
    (repository.path / ".git/index").unlink()
    os.mkfifo(repository.path / ".git/index")
    assert "index is not a regular file" in unsupported(repository)


@pytest.mark.parametrize("name", ["HEAD:a.txt", "HEAD:sub", "HEAD^{tree}", "HEAD"])
def test_an_object_under_another_name_is_refused(repository: Repository, name: str) -> None:
    file, tree = (repository.git("rev-parse", which) for which in ("HEAD:a.txt", "HEAD^{tree}"))
    oid = repository.git("rev-parse", name)
    kind = repository.git("cat-file", "-t", oid)
    bodies = {
        "blob": b"evil\n",
        "tree": b"100644 evil\0" + bytes.fromhex(file),
        "commit": commit_of(tree),
    }
    repository.plant(kind, bodies[kind], oid)
    # git itself looks at commits, and at nothing below
    assert f"{kind} {oid} are others" in planted(repository) if kind != "commit" else unsupported(repository)


def test_a_missing_object(repository: Repository) -> None:
    oid = repository.git("rev-parse", "HEAD:a.txt")
    (repository.path / ".git/objects" / oid[:2] / oid[2:]).unlink()
    assert unsupported(repository) == "the object of a.txt is missing"


@pytest.mark.parametrize("known", [False, True])
def test_a_submodule_is_refused_by_its_name(repository: Repository, tmp_path: Path, known: bool) -> None:
    other = Repository.make(tmp_path / "other", {"x": "x"})
    repository.git("submodule", "add", "-q", str(other.path), "module")
    repository.commit()
    if known:  # its commit lies among our own objects too
        repository.git("fetch", "-q", str(other.path), "HEAD")
    assert unsupported(repository) == "module is a submodule"


def test_a_submodule_is_never_entered(repository: Repository, tmp_path: Path, witness: Path) -> None:
    other = Repository.make(tmp_path / "other", {".gitattributes": "* filter=evil\n"})
    repository.git("submodule", "add", "-q", str(other.path), "module")
    repository.commit()
    inner = Repository(repository.path / "module")
    inner.git("config", "filter.evil.clean", str(witness.with_name("evil")))
    aged(inner)
    assert "submodule" in unsupported(repository)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("mode", "name", "why"),
    [
        ("100644", b"..", "malformed"),
        ("100644", b".", "malformed"),
        ("100644", b"", "malformed"),
        ("100644", b"a/b", "malformed"),
        ("100644", b"flake.nix", "flake.nix is listed twice"),
        ("160000", b"module", "module is a submodule"),
        ("060000", b"device", "unusual git mode 060000"),
        ("000644", b"nothing", "unusual git mode 000644"),
        ("999999", b"number", "malformed"),
    ],
)
def test_trees_that_no_git_writes(repository: Repository, mode: str, name: bytes, why: str) -> None:
    oid = repository.git("rev-parse", "HEAD:flake.nix")
    repository.plant_tree(("100644", b"flake.nix", oid), (mode, name, oid))
    assert why in planted(repository)


def planted(repository: Repository) -> str:
    """Why the tree is refused, whatever git says about changes against such a tree."""
    with pytest.raises(RefusedError) as refusal:
        git.read_work_tree(repository.path, 1 << 20)
    assert refusal.value.codes == (ReasonCode.FLAKE_UNSUPPORTED,)
    return refusal.value.reasons[0].why


def test_a_torn_tree(repository: Repository) -> None:
    tree = repository.plant("tree", b"100644 flake.nix\0" + bytes(19))
    repository.git("update-ref", "HEAD", repository.plant("commit", commit_of(tree)))
    assert "malformed" in planted(repository)


def commit_of(tree: str) -> bytes:
    return f"tree {tree}\nauthor t <t@t> 0 +0000\ncommitter t <t@t> 0 +0000\n\nplanted\n".encode()


def test_a_tree_that_is_a_file_is_refused(repository: Repository) -> None:
    oid = repository.git("rev-parse", "HEAD:flake.nix")
    tree = repository.plant("tree", b"40000 sub\0" + bytes.fromhex(oid))
    repository.git("update-ref", "HEAD", repository.plant("commit", commit_of(tree)))
    assert planted(repository) == f"there is no tree {oid}, which it names"


def test_small_objects_that_stand_for_endless_trees(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bombs: ten entries each of the same tree, many levels deep; the same large file many times; a long chain."""
    monkeypatch.setattr(git_objects, "MAX_ENTRIES", 5000)
    oid = repository.git("rev-parse", "HEAD:flake.nix")
    tree = repository.plant("tree", b"100644 a\0" + bytes.fromhex(oid))
    for _ in range(9):
        tree = repository.plant("tree", b"".join(b"40000 %c\0" % c + bytes.fromhex(tree) for c in b"abcdefghij"))
    repository.git("update-ref", "HEAD", repository.plant("commit", commit_of(tree)))
    assert planted(repository) == "its tree has more than 5000 entries"

    large = repository.plant("blob", bytes(100_000))
    wide = repository.plant("tree", b"".join(b"100644 %c\0" % c + bytes.fromhex(large) for c in b"abcdefghijklm"))
    repository.git("update-ref", "HEAD", repository.plant("commit", commit_of(wide)))
    assert planted(repository) == "its tree is larger than 1048576 bytes"

    for _ in range(git_objects.MAX_DEPTH + 1):
        tree = repository.plant("tree", b"40000 a\0" + bytes.fromhex(tree))
    repository.git("update-ref", "HEAD", repository.plant("commit", commit_of(tree)))
    assert "nested deeper than 100" in planted(repository)


def test_a_link_with_a_nul_or_nothing_in_it(repository: Repository) -> None:
    for target in (b"", b"a\0b"):
        link = repository.plant("blob", target)
        tree = repository.plant("tree", b"120000 link\0" + bytes.fromhex(link))
        repository.git("update-ref", "HEAD", repository.plant("commit", commit_of(tree)))
        assert "not the target of a symbolic link" in planted(repository)


def test_old_modes_are_read_as_git_reads_them(repository: Repository) -> None:
    oid = repository.git("rev-parse", "HEAD:flake.nix")
    body = b"".join(mode + b"\0" + bytes.fromhex(oid) for mode in (b"100664 flake.nix", b"100775 run"))
    repository.git("update-ref", "HEAD", repository.plant("commit", commit_of(repository.plant("tree", body))))
    repository.git("reset", "-q", "--hard")
    clean = take_flake(FlakeRef(str(repository.path)))
    repository.git("checkout", "-q", "--orphan", "new")
    repository.commit()
    assert take_flake(FlakeRef(str(repository.path))).archive == clean.archive


def test_a_repository_of_sha256(tmp_path: Path) -> None:
    one = Repository.make(tmp_path / "one", {"a/b": "c"}, format_="sha256")
    two = Repository.make(tmp_path / "two", {"a/b": "c"})
    found = take_flake(FlakeRef(str(one.path)))
    assert found.commit is not None
    assert len(found.commit) == 64
    assert found.archive == take_flake(FlakeRef(str(two.path))).archive


def test_an_empty_tree_has_no_flake(repository: Repository) -> None:
    repository.git("rm", "-rq", ".")
    repository.git("commit", "-q", "-m", "empty")
    repository.path.mkdir(exist_ok=True)
    assert "there is no flake.nix" in unsupported(repository)
