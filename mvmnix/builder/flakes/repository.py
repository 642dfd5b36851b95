"""Finds the git repository around a directory of the user's, and judges it before git reads it; runs nothing.

1. The work tree is the nearest directory from there upwards that has a `.git`, on the same file system.
2. A `.git` that is a file names a repository elsewhere. It is followed where that one is a linked work tree's which
   names this file (gitrepository-layout(5), `gitdir`), or a submodule's of a repository around it.
3. Work tree, repository and what they share belong to the caller (git-config(1), `safe.directory`).
4. All objects lie in it: what names others (`objects/info/alternates`) is refused.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError, refuse

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TREE, _GIT = "/repository/tree", "/repository/git"
#: Bytes of a file that names a directory.
_POINTER: Final = 8192


@dataclass(frozen=True, slots=True)
class Found:
    """A repository: the work tree's top, its own directory, the one that it shares with others where it is linked.

    `files` are descriptors of directories by their path in the sandbox.
    """

    top: Path
    git_dir: Path
    common: Path
    files: dict[str, Path | int]

    @property
    def environment(self) -> dict[str, str]:
        """How git finds it in the sandbox (git(1)); its own settings of these places have no say."""
        return {"GIT_DIR": str(Path(_GIT, self.git_dir.relative_to(self.common))), "GIT_WORK_TREE": _TREE}


@contextmanager
def found(where: Path) -> Iterator[Found]:
    """The repository around an absolute directory. Raises RefusedError [flake-unsupported]."""
    # 1. the nearest
    top = _top(where)
    with ExitStack() as stack:

        def held(path: Path) -> int:
            try:
                fd = os.open(path, _DIRECTORY)
            except OSError as error:
                raise _refused(where, f"{path} can't be opened as a directory: {error.strerror}") from error
            stack.callback(os.close, fd)
            # 3. the caller's
            owner = os.fstat(fd).st_uid
            if owner != os.geteuid():
                why = f"{path} belongs to uid {owner}, and git reads a repository for its owner alone"
                raise _refused(
                    where, why, f"copy it to a directory of your own (cp -r), or name it as it is: {copy_of(where)}"
                )
            return fd

        files: dict[str, Path | int] = {_TREE: held(top)}
        git_dir = top / ".git"
        if not git_dir.is_dir():
            git_dir = _elsewhere(where, top)
        common = git_dir
        files[_GIT] = held(git_dir)
        if (named := _pointer(git_dir / "commondir")) is not None:
            common = Path(os.path.realpath(git_dir / named))
            if git_dir.parent != common / "worktrees":  # gitrepository-layout(5)
                raise _refused(where, f"{git_dir}/commondir names {common}, whose linked work tree it isn't")
            files[_GIT] = held(common)
        # 4. its objects
        if os.path.lexists(common / "objects/info/alternates"):
            hint = "git repack -a -d, then remove .git/objects/info/alternates"
            raise _refused(where, "some of its objects lie in another repository (objects/info/alternates)", hint)
        yield Found(top, git_dir, common, files)


def copy_of(where: Path) -> str:
    """How a flake in this directory is named, to be taken as a copy of the whole tree, committed or not.

    The tree may have other flakes that it takes as inputs, so the copy begins where a repository does.
    """
    top = next((each for each in (where, *where.parents) if os.path.lexists(each / ".git")), where)
    return f"path:{top}" + (f"?dir={where.relative_to(top)}" if top != where else "")


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


def _pointer(path: Path) -> str | None:
    """The line in a regular file, which ends at a NUL, as for git; None where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
