"""A branch of a git repository that others write to: what git gets of it, and what is written, and where."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.audit import git_branch
from mvmnix.audit.git_branch import GitBranch
from mvmnix.errors import MvmnixError, ReasonCode
from mvmnix.sandbox.helper import Sandbox
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import Completed
from tests.repository import ROOT
from tests.support.refusals import refusal_codes
from tests.throwaway_user import throwaway_user


def git(repository: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=b")
    argv = ["git", *who, f"--git-dir={repository}", *words]
    return subprocess.run(argv, check=True, capture_output=True).stdout.decode().strip()


def branch_of(repository: Path, name: str = "a/b") -> GitBranch:
    return GitBranch(str(repository), name, "file", 60, 1000)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "--bare", "--template=", str(tmp_path / "r.git")], check=True)
    return tmp_path / "r.git"


def add(branch: GitBranch, content: bytes) -> bool:
    return branch.add(branch.read(), content, "a message")


@pytest.mark.parametrize("format_", ["sha1", "sha256"])
@pytest.mark.parametrize("is_bare", [True, False])
def test_what_is_written_is_what_git_reads(tmp_path: Path, format_: str, *, is_bare: bool) -> None:
    bare = ["--bare"] if is_bare else []
    argv = ["git", "init", "-q", *bare, f"--object-format={format_}", str(tmp_path / "r")]
    subprocess.run(argv, check=True)
    repository = tmp_path / "r" if is_bare else tmp_path / "r/.git"
    branch = branch_of(repository)
    assert branch.read().commit == ""
    assert add(branch, b"one")
    git(repository, "pack-refs", "--all")
    git(repository, "gc", "-q")
    assert branch.read().content == b"one"
    assert add(branch, b"two")
    assert branch.read().commit == git(repository, "rev-parse", "a/b")
    assert git(repository, "fsck", "--strict", "a/b") == ""
    assert git(repository, "log", "--format=%an %ae %s", "--stat=20", "a/b").startswith("mvm mvm@localhost a message")
    assert [git(repository, "show", f"{which}:file") for which in ("a/b", "a/b~")] == ["two", "one"]
    assert git(repository, "ls-tree", "--name-only", "a/b") == "file"


def test_what_git_gets_of_a_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else lies there: nothing of it is in the sandbox."""
    shown: list[set[str]] = []
    real = Sandbox.script

    def script(self: Sandbox, *words: str) -> Completed:
        shown.append({*self.files})
        return real(self, *words)

    monkeypatch.setattr(Sandbox, "script", script)
    assert add(branch_of(repository), b"x")
    branch_of(repository).read()
    names = {"objects", "packed-refs", "HEAD", "config", "refs/.directory"}
    first = {f"/repository/git/{name}" for name in names}
    assert shown == [first, first | {"/repository/git/refs/heads/a/b"}]


def test_what_was_not_read_is_not_replaced(repository: Path) -> None:
    branch = branch_of(repository)
    before = branch.read()
    assert branch.add(before, b"x", "m")
    assert not branch.add(before, b"y", "m")
    git(repository, "pack-refs", "--all")
    assert not branch.add(before, b"y", "m")
    tip = branch.read()
    git(repository, "update-ref", "-d", "refs/heads/a/b")
    assert not branch.add(tip, b"y", "m")
    assert not (repository / "refs/heads/a/b.lock").exists()


def test_a_directory_that_git_removes_meanwhile(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = git_branch._create

    def create(directory: Directory, lock: str) -> int:
        (repository / "refs/heads/a").rmdir()
        return real(directory, lock)

    with monkeypatch.context() as patch:
        patch.setattr(git_branch, "_create", create)
        assert not add(branch_of(repository), b"x")
    assert add(branch_of(repository), b"x")


def linked(place: str) -> Callable[[Path, Path], object]:
    """What lies there is moved out of the repository, and a symbolic link leads to it."""

    def plant(repository: Path, elsewhere: Path) -> None:
        target = elsewhere / "target"
        if (repository / place).exists():
            (repository / place).rename(target)
        (repository / place).parent.mkdir(parents=True, exist_ok=True)
        (repository / place).symlink_to(target)

    return plant


def shared(place: str) -> Callable[[Path, Path], object]:
    def plant(repository: Path, _: Path) -> None:
        (repository / place).chmod((repository / place).stat().st_mode | 0o020)

    return plant


@pytest.mark.parametrize("place", ["objects", "refs", "refs/heads", "refs/heads/a", "refs/heads/a/b", "config"])
@pytest.mark.parametrize("plant", [linked, shared])
def test_what_others_could_lead_elsewhere_is_refused(
    repository: Path, tmp_path: Path, place: str, plant: Callable[[str], Callable[[Path, Path], object]]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert add(branch_of(repository), b"x")
    plant(place)(repository, tmp_path / "elsewhere")
    before = sorted(tmp_path.joinpath("elsewhere").rglob("*"))
    assert refusal_codes(add, branch_of(repository), b"y") == (ReasonCode.STATE_PERMISSIONS,)
    assert sorted(tmp_path.joinpath("elsewhere").rglob("*")) == before


def test_links_where_something_is_written(repository: Path, tmp_path: Path) -> None:
    """In the place of the lock, a log of the branch, and the directories of objects."""
    (tmp_path / "elsewhere").mkdir()
    for name in (f"{number:02x}" for number in range(256)):
        (repository / "objects" / name).symlink_to(tmp_path / "elsewhere")
    assert refusal_codes(add, branch_of(repository), b"x") == (ReasonCode.STATE_PERMISSIONS,)
    for name in (f"{number:02x}" for number in range(256)):
        (repository / "objects" / name).unlink()
    for place in ("logs/refs/heads/a/b", "refs/heads/a/c", "packed-refs.lock"):
        (repository / place).parent.mkdir(parents=True, exist_ok=True)
        (repository / place).symlink_to(tmp_path / "elsewhere" / "new")
    assert add(branch_of(repository), b"x")
    assert not any((tmp_path / "elsewhere").iterdir())


ADDS = """
import sys
from pathlib import Path
from mvmnix.errors import RefusedError
from mvmnix.system import system_user
from tests.unit.audit.test_git_branch import add, branch_of
system_user.become(sys.argv[1])
try:
    print(add(branch_of(Path(sys.argv[2])), b"x"))
except RefusedError as refused:
    print(refused)
"""


@pytest.mark.root("only root gives files away")
def test_what_another_user_owns_is_refused() -> None:
    with throwaway_user() as user:
        repository = Path(user.pw_dir, "r.git")

        def added() -> str:
            argv = [sys.executable, "-P", "-c", ADDS, user.pw_name, str(repository)]
            environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
            done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        for place in (".", "objects", "refs/heads/a", "refs/heads/a/b"):
            subprocess.run(["git", "init", "-q", "--bare", "--template=", str(repository)], check=True)
            subprocess.run(["chown", "-R", f"{user.pw_name}:", repository], check=True)
            assert added() == "True\n"
            os.chown(repository / place, 1234, 1234)
            assert "belongs to uid 1234" in added(), place
            shutil.rmtree(repository)


@pytest.mark.parametrize("lock", ["", "a-link"])
def test_a_lock_that_stays(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str) -> None:
    """Of a git that was killed, or planted: it is neither removed nor followed."""
    monkeypatch.setattr(git_branch, "_LOCK_TRIES", 2)
    path = repository / "refs/heads/a/b.lock"
    path.parent.mkdir()
    if lock:
        path.symlink_to(tmp_path / "new")
    else:
        path.touch()
    with pytest.raises(MvmnixError, match=r"b\.lock is there") as raised:
        add(branch_of(repository), b"x")
    assert f"rm {path}" in raised.value.hint
    assert path.is_symlink() or path.exists()
    assert not (tmp_path / "new").exists()


def test_a_lock_that_goes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = repository / "refs/heads/a/b.lock"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setattr(time, "sleep", lambda _: path.unlink())
    assert add(branch_of(repository), b"x")


@pytest.mark.parametrize("text", ["ref: refs/heads/main\n", "nonsense\n", "", "0" * 39, "a" * 2000, "../../config"])
def test_a_branch_that_names_no_commit(repository: Path, text: str) -> None:
    (repository / "refs/heads/a").mkdir()
    (repository / "refs/heads/a/b").write_text(text)
    with pytest.raises(MvmnixError):
        add(branch_of(repository), b"x")
    assert (repository / "refs/heads/a/b").read_text() == text


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a", "a/b/c/d", "a/b/c"])
def test_a_branch_that_is_in_the_way(repository: Path, name: str, *, packed: bool) -> None:
    assert add(branch_of(repository), b"x")
    if packed:
        git(repository, "pack-refs", "--all")
    with pytest.raises(MvmnixError, match=r"in its way|not a regular file|no directory"):
        add(branch_of(repository, name), b"y")
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/a/b"


@pytest.mark.parametrize("name", ["tags", "heads", "remotes"])
def test_what_only_ends_with_its_name_is_not_the_branch(repository: Path, name: str) -> None:
    """As git looks for a name that isn't there (gitrevisions(7)); whoever pushes tags names them."""
    assert add(branch_of(repository, "other"), b"theirs")
    git(repository, "update-ref", f"refs/{name}/refs/heads/a/b", "other")
    git(repository, "pack-refs", "--all")
    assert branch_of(repository).read().commit == ""
    assert add(branch_of(repository), b"x")
    assert git(repository, "rev-list", "--count", "refs/heads/a/b") == "1"


def test_a_branch_whose_commit_is_missing_is_no_new_one(repository: Path) -> None:
    (repository / "packed-refs").write_text(f"{'1' * 40} refs/heads/a/b\n")
    with pytest.raises(MvmnixError, match="git can't read a/b"):
        branch_of(repository).read()


def test_branches_side_by_side(repository: Path) -> None:
    for name in ("a/b", "a/bc", "a-b", "ab/a/b"):
        assert add(branch_of(repository, name), name.encode())
        git(repository, "pack-refs", "--all")
    assert branch_of(repository).read().content == b"a/b"


def test_other_ways_to_keep_branches(repository: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", "--ref-format=reftable", str(tmp_path / "t.git")], check=True)
    with pytest.raises(MvmnixError, match="reftable") as raised:
        branch_of(tmp_path / "t.git").read()
    subprocess.run(["sh", "-c", raised.value.hint], check=True)
    assert add(branch_of(tmp_path / "t.git"), b"x")
    (tmp_path / "work").mkdir()
    subprocess.run(["git", "init", "-q", f"--separate-git-dir={tmp_path}/s.git", str(tmp_path / "work")], check=True)
    for path in (tmp_path / "work", tmp_path / "work/.git"):
        with pytest.raises(MvmnixError):
            branch_of(path).read()
    assert add(branch_of(tmp_path / "s.git"), b"x")


def test_objects_that_lie_elsewhere_are_not_found(repository: Path, tmp_path: Path) -> None:
    assert add(branch_of(repository), b"x")
    subprocess.run(["git", "clone", "-q", "--bare", "--shared", repository, tmp_path / "c.git"], check=True)
    with pytest.raises(MvmnixError, match="git can't read a/b"):
        branch_of(tmp_path / "c.git").read()
