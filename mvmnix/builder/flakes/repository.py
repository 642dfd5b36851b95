"""Finds the git repository around a directory of the user's, and chooses what git gets of it; runs nothing.

1. The work tree is the nearest directory from there upwards that has a `.git`, on the same file system.
2. A `.git` that is a file names a repository elsewhere. It is followed where that one is a linked work tree's which
   names this file (gitrepository-layout(5), `gitdir`), or a submodule's of a repository around it.
3. Work tree, repository and what they share belong to the caller, or to root where root alone can change them
   (git-config(1), `safe.directory`). git is told where they are by GIT_DIR, and then asks nothing about owners.
4. All objects lie in it: what names others (`objects/info/alternates`) is refused.
5. git gets its objects and refs, HEAD and the index, none of which is a symbolic link, and nothing else: its
   configuration has no say (sandbox/git.py), but for the object format, and that refs lie in `reftable`.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats.escaping import shell_word
from mvmnix.formats.strict import canonical
from mvmnix.sandbox import git
from mvmnix.system import trusted_path

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TREE: Final = "/repository/tree"
#: Bytes of a file that names a directory.
_POINTER: Final = 8192
#: Bytes of an index, or of a file of packed refs; those of 200,000 files take some 20 MiB.
_MAX_FILE: Final = 64 << 20
#: Files that name a commit (gitrepository-layout(5)): HEAD by a branch, HEAD or a branch by an object's name.
_SYMBOLIC: Final = re.compile(rb"ref: refs/(heads(?:/[\w+@-][\w.+@-]*)+)\n")
_DIRECT: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\n")
#: The part of an index that others share (git-update-index(1), `--split-index`).
_SHARED_INDEX: Final = re.compile(r"sharedindex\.[0-9a-f]{40,64}")
_INDEX: Final = re.compile(rf"index|{_SHARED_INDEX.pattern}")


@dataclass(frozen=True, slots=True)
class Found:
    """A repository: the work tree's top, a descriptor of it, and what git gets of it by the path in the sandbox.

    `git_dir` is the directory of this work tree in the repository, as git finds it in the sandbox; `index_time` when
    the index was written, in seconds: git compares the contents of what is newer.
    """

    top: Path
    tree: int
    git_dir: str
    index_time: str
    files: Mapping[str, Path | int | bytes]

    @property
    def environment(self) -> dict[str, str]:
        """How git finds it in the sandbox (git(1)); its own settings of these places have no say."""
        return {"GIT_DIR": self.git_dir, "GIT_WORK_TREE": _TREE, "INDEX_TIME": self.index_time}

    def head(self) -> str | None:
        """Return the commit that HEAD names, where its files say so plainly; None where git has to be asked."""
        refs, said = self.files.get(f"{git.REPOSITORY}/refs"), self._content(f"{self.git_dir}/HEAD")
        if not isinstance(refs, int) or f"{git.REPOSITORY}/reftable" in self.files:
            return None
        if (branch := _SYMBOLIC.fullmatch(said)) is not None:
            own = _branch(refs, branch[1].split(b"/"))
            said = _packed(branch[1], self._content(f"{git.REPOSITORY}/packed-refs")) if own is None else own
        commit = _DIRECT.fullmatch(said)
        return None if commit is None else commit[1].decode()

    @property
    def index(self) -> Digest:
        """The digest of the index, with the parts that it shares with others."""
        parts = {
            name: Digest.of(content).hex
            for name, content in self.files.items()
            if isinstance(content, bytes) and _INDEX.fullmatch(name.removeprefix(f"{self.git_dir}/"))
        }
        return Digest.of(canonical(parts))

    def _content(self, name: str) -> bytes:
        """The bytes of a file that git gets; nothing where there is none."""
        content = self.files.get(name, b"")
        return content if isinstance(content, bytes) else b""


@dataclass(frozen=True, slots=True)
class _Held:
    """A directory of the caller's by its path and descriptor; `where` is for messages."""

    where: Path
    path: Path
    fd: int

    @classmethod
    def open(cls, where: Path, path: Path, stack: ExitStack) -> Self:
        """Open it; `stack` closes it."""
        try:
            fd = os.open(path, _DIRECTORY)
        except OSError as error:
            raise _refused(where, f"{path} can't be opened as a directory: {error.strerror}") from error
        stack.callback(os.close, fd)
        # 3. the caller's, or root's alone
        owner = os.fstat(fd).st_uid
        if owner != os.geteuid() and not trusted_path.is_root_s_alone(str(path)):
            why = f"{path} belongs to uid {owner}, and git reads a repository for its owner alone"
            if owner == 0:
                why = f"{path} belongs to root, and others can change it, or a directory above"
            hint = f"copy it to a directory of your own (cp -r), or name it as it is: {copy_of(where)}"
            raise _refused(where, why, hint)
        return cls(where, path, fd)

    def directories(self, names: Iterable[str], stack: ExitStack) -> dict[str, int]:
        """Open those directories that exist, by name; `stack` closes them."""
        found = {}
        for name in names:
            try:
                found[name] = os.open(name, _DIRECTORY, dir_fd=self.fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unreadable(name, error) from error
            stack.callback(os.close, found[name])
        return found

    def files(self, names: Iterable[str]) -> dict[str, bytes]:
        """Read those regular files that exist, by name."""
        found = {}
        for name in names:
            try:
                fd = os.open(name, _FILE, dir_fd=self.fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unreadable(name, error) from error
            with os.fdopen(fd, "rb") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise _refused(self.where, f"{self.path / name} is not a regular file")
                found[name] = file.read(_MAX_FILE + 1)
            if len(found[name]) > _MAX_FILE:
                raise _refused(self.where, f"{self.path / name} is larger than {_MAX_FILE} bytes")
        return found

    def names(self, pattern: re.Pattern[str]) -> list[str]:
        """List the names in it that match a pattern."""
        return [name for name in os.listdir(f"/proc/self/fd/{self.fd}") if pattern.fullmatch(name)]  # noqa: PTH208

    def time(self, name: str) -> str:
        """Return a file's modification time in seconds since the epoch, with a fraction; 0 where there is no file."""
        with suppress(OSError):
            changed = os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mtime_ns
            return f"{changed // 10**9}.{changed % 10**9:09}"
        return "0"

    def _unreadable(self, name: str, error: OSError) -> RefusedError:
        return _refused(self.where, f"{self.path / name} can't be opened: {error.strerror}")


@contextmanager
def found_repository(where: Path) -> Iterator[Found]:
    """The repository around an absolute directory. Raises RefusedError [flake-unsupported]."""
    # 1. the nearest
    top = _top(where)
    with ExitStack() as stack:
        tree = _Held.open(where, top, stack)
        git_dir = top / ".git"
        if not git_dir.is_dir():
            git_dir = _elsewhere(where, top)
        own = common = _Held.open(where, git_dir, stack)
        if (named := _pointer(git_dir / "commondir")) is not None:
            shared = Path(os.path.realpath(git_dir / named))
            if git_dir.parent != shared / "worktrees":  # gitrepository-layout(5)
                raise _refused(where, f"{git_dir}/commondir names {shared}, whose linked work tree it isn't")
            common = _Held.open(where, shared, stack)
        # 4. its objects
        if os.path.lexists(common.path / "objects/info/alternates"):
            hint = "git repack -a -d, then remove .git/objects/info/alternates"
            raise _refused(where, "some of its objects lie in another repository (objects/info/alternates)", hint)
        # 5. what git gets
        inside = str(Path(git.REPOSITORY, git_dir.relative_to(common.path)))
        index_time = own.time("index")  # before it is read: a file that takes its place is newer
        files = {_TREE: tree.fd, **_shared_files(common, stack), **_own_files(own, inside, stack)}
        yield Found(top, tree.fd, inside, index_time, files)


def _shared_files(common: _Held, stack: ExitStack) -> dict[str, int | bytes]:
    """List what all work trees of a repository share, by the path in the sandbox."""
    directories = common.directories(("objects", "refs", "reftable"), stack)
    files: dict[str, int | bytes] = {**directories, **common.files(("packed-refs",))}
    sha256 = git.is_sha256(common.files(("config",)).get("config", b""))
    return {
        **{f"{git.REPOSITORY}/{name}": content for name, content in files.items()},
        **git.repository_files(sha256=sha256, reftable="reftable" in directories),
    }


def _own_files(own: _Held, inside: str, stack: ExitStack) -> dict[str, int | bytes]:
    """List what belongs to one work tree alone, by the path in the sandbox."""
    files: dict[str, int | bytes] = {**own.files(("HEAD", "index", *own.names(_SHARED_INDEX)))}
    if inside != git.REPOSITORY:
        files |= {**own.directories(("reftable",), stack), "commondir": b"../..\n"}
    return {f"{inside}/{name}": content for name, content in files.items()}


def copy_of(where: Path) -> str:
    """For a shell: how a flake in this directory is named, to be taken as a copy of the whole tree, committed or not.

    The tree may have other flakes that it takes as inputs, so the copy begins where a repository does.
    """
    top = next((each for each in (where, *where.parents) if os.path.lexists(each / ".git")), where)
    return shell_word(f"path:{top}" + (f"?dir={where.relative_to(top)}" if top != where else ""))


def _top(where: Path) -> Path:
    device = where.stat().st_dev
    for directory in (where, *where.parents):
        with suppress(PermissionError):
            if directory.stat().st_dev != device:
                break
            if os.path.lexists(directory / ".git"):
                return directory
    raise _refused(where, "it is not a git repository (or any of the parent directories)")


def _elsewhere(where: Path, top: Path) -> Path:
    """2. the repository that a `.git` file names."""
    said = _pointer(top / ".git")
    if said is None or not said.startswith("gitdir: "):
        raise _refused(where, "its .git is neither a directory nor a file that names one")
    git_dir = Path(os.path.realpath(top / said.removeprefix("gitdir: ")))
    back = _pointer(git_dir / "gitdir")
    if back is not None and Path(os.path.realpath(git_dir / back)) == top / ".git":
        return git_dir
    if any(git_dir.is_relative_to(parent / ".git/modules") for parent in top.parents):
        return git_dir
    hint = f"git worktree repair, or take it as a copy: {copy_of(where)}"
    raise _refused(where, f"its .git file names {git_dir}, which doesn't name it back", hint)


def _branch(refs: int, path: Sequence[bytes]) -> bytes | None:
    """What a branch's own file says; None where there is none, nothing where git has to look for itself."""
    with ExitStack() as stack:
        try:
            here = refs
            for name in path[:-1]:
                here = os.open(name, _DIRECTORY, dir_fd=here)
                stack.callback(os.close, here)
            fd = os.open(path[-1], _FILE, dir_fd=here)
            stack.callback(os.close, fd)
            return os.read(fd, _POINTER)
        except FileNotFoundError:
            return None
        except OSError:
            return b""


def _packed(branch: bytes, packed: bytes) -> bytes:
    """What packed-refs says of a branch, as in a file of its own; nothing where there isn't one line of it."""
    found = re.findall(rb"(?m)^([0-9a-f]+) refs/%s$" % re.escape(branch), packed)
    return found[0] + b"\n" if len(found) == 1 else b""


def _pointer(path: Path) -> str | None:
    """The line in a regular file, which ends at a NUL, as for git; None where there is none."""
    try:
        fd = os.open(path, _FILE)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        try:
            return os.fsdecode(file.read(_POINTER)).partition("\0")[0].removesuffix("\n")
        except OSError:
            return None


def _refused(where: Path, why: str, hint: str = "") -> RefusedError:
    hint = hint or f"commit it in a repository of your own, or take it as an uncommitted copy: {copy_of(where)}"
    return refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), f"it is not a git work tree that can be read: {why}", hint)
