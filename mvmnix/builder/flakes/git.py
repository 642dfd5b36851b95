"""Asks git, in the sandbox, about a repository of the user's: its commit, its changes, its tree; nothing is written.

A repository is as hostile as the flake in it: its configuration names programs, so git doesn't get it (repository.py),
and its objects are read by their hash alone (objects.py). git works where nothing can be reached.
"""

import os
import stat
from pathlib import Path
from typing import Final

from mvmnix import nar, process
from mvmnix.builder.flakes import objects
from mvmnix.builder.flakes.repository import Found, copy_of, found
from mvmnix.child_causes import Cause
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import GIT, locate

_MIB: Final = 1 << 20
#: git maps packs, and takes objects apart in memory; a repository that needs more is refused.
_BOUNDS: Final = Bounds(seconds=300, room=256 * _MIB, memory=2048 * _MIB, output=64 * _MIB)
#: Prints what HEAD is: name, type, size.
_LOOK: Final = "printf 'HEAD\\n' | git cat-file --batch-check"
#: $1 the commit. The index has its own time again, for git compares the contents of files that are as new. A submodule
#: that it lists differs from the commit, which has none (objects.py), and is not entered: git would read its
#: configuration. An index also says which files are unchanged, by flags and by their times, so the files that are there
#: are compared with the commit once more, by their contents: by an index that knows nothing of them.
_CHANGES: Final = r"""
cd "$GIT_WORK_TREE"
if [ -e "$GIT_DIR/index" ]; then
  cp "$GIT_DIR/index" "$TMPDIR/index"
  touch -d "@$INDEX_TIME" "$TMPDIR/index"
  export GIT_INDEX_FILE="$TMPDIR/index"
fi
git ls-files --stage -z | sed -nz 's/^160000 [0-9a-f]* [0-3]\t/A  /p' >"$TMPDIR/submodules"
if [ -s "$TMPDIR/submodules" ]; then
  exec cat "$TMPDIR/submodules"
fi
git status --porcelain=v1 -z --no-renames --untracked-files=no
export GIT_INDEX_FILE="$TMPDIR/new"
git read-tree "$1"
git status --porcelain=v1 -z --no-renames --untracked-files=no >"$TMPDIR/changes"
exec sed -z 's/^ D / M?/' "$TMPDIR/changes"
"""
#: What it puts before a file that the second index doesn't find there, as in a sparse checkout.
_NOT_FOUND: Final = b" M?"
_LIST: Final = r"""
cd "$GIT_WORK_TREE"
exec git ls-files --cached -z
"""
#: What no component of a tracked path is, in small letters (git: read-cache.c, verify_path).
_NO_FILES: Final = frozenset({b"", b".", b"..", b".git"})
#: What a repository is to blame for: git says so itself, or it takes more than git may have.
_ITS_OWN: Final = frozenset({Cause.OWN, Cause.MEMORY, Cause.FLOODED, Cause.LATE, Cause.DISK_FULL})
_TALK: Final = 'exec git "$@"'


class WorkTree:
    """The git work tree around an absolute directory, as git describes it now: its `top`, its `commit`.

    Raises RefusedError [flake-unsupported] where there is none, MvmnixError without git.
    """

    def __init__(self, where: Path) -> None:
        self._where = where
        with found(where) as repository:
            head = _said(repository, where, _LOOK)
        self.top = repository.top
        self.commit = self._committed(head)

    def changes(self) -> tuple[str, ...]:
        """The names of tracked files that differ from the commit, as they lie there or in the index, sorted.

        For a repository whose tree was read: git has no bounds on what a tree stands for.
        """
        with found(self._where) as repository:
            try:
                said = _sandbox(repository).script(_CHANGES, self.commit).stdout
            except process.ProcessError as error:
                if error.kind not in _ITS_OWN:
                    raise
                why = f"git can't compare it with its commit: {_cause(error)}"
                raise self._unsupported(why, "git status") from error
        names = {
            entry[3:]
            for entry in said.split(b"\0")
            if entry and not (entry.startswith(_NOT_FOUND) and _is_absent(self.top, entry[3:]))
        }
        return tuple(sorted(name.decode(errors="replace") for name in names))

    def tree(self, limit: int) -> nar.Dir:
        """The tree of the commit, from its objects alone, each hashed. Refuses more than `limit` bytes of files."""
        with found(self._where) as repository:
            try:
                with _sandbox(repository).talk(_TALK, *objects.CONVERSATION) as (to, heard):
                    return objects.ObjectReader(to, heard, str(self._where)).tree(self.commit, limit)
            except process.ProcessError as error:
                if error.kind not in _ITS_OWN:
                    raise
                why = f"git can't read its objects, or not within {_BOUNDS.memory >> 20} MiB: {_cause(error)}"
                raise self._unsupported(why, "git fsck") from error

    def _committed(self, head: bytes) -> str:
        match head.decode("ascii", "replace").split():
            case [oid, "commit", size] if int(size) <= objects.MAX_COMMIT:
                return oid
            case [_, "commit", size]:
                hint = "make a commit with a shorter message"
                raise self._unsupported(f"its commit has {size} bytes, more than {objects.MAX_COMMIT}", hint)
            case _:
                why = "it is not a git work tree with a commit: HEAD names none"
                raise self._unsupported(why, f"commit it, or take it as an uncommitted copy: {copy_of(self._where)}")

    def _unsupported(self, why: str, hint: str) -> RefusedError:
        return refuse(ReasonCode.FLAKE_UNSUPPORTED, str(self._where), why, hint)


def tracked(where: Path) -> tuple[Path, tuple[bytes, ...]]:
    """The top of the work tree around a directory, and the paths from there of the files in its index.

    No commit is needed. Raises RefusedError [flake-unsupported] where there is no work tree, and for paths that lead
    elsewhere or into a repository: git itself looks at a path when it is added, and takes an index as it is.
    """
    with found(where) as repository:
        listed = _said(repository, where, _LIST)
    names = tuple(sorted({name for name in listed.split(b"\0") if name}))
    if (bad := next((name for name in names if _NO_FILES & {*name.lower().split(b"/")}), None)) is not None:
        why = f"its index lists {_text(bad)}, which is not a file of a work tree"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, "make the index anew: git read-tree HEAD")
    return repository.top, names


def _said(repository: Found, where: Path, script: str, *arguments: str) -> bytes:
    try:
        return _sandbox(repository).script(script, *arguments).stdout
    except process.ProcessError as error:
        if error.kind is not Cause.OWN:
            raise
        why = f"it is not a git work tree with a commit: {_cause(error)}"
        hint = f"commit it, or take it as an uncommitted copy: {copy_of(where)}"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, hint) from error


def _sandbox(repository: Found) -> Sandbox:
    locate(GIT)  # or it says what to install
    return Sandbox(repository.files, repository.environment, bounds=_BOUNDS)


def _is_absent(top: Path, name: bytes) -> bool:
    """Whether a file is simply missing: nothing stands in for it, as a link on the way does for what it leads to."""
    here = os.fsencode(top)
    for part in name.split(b"/"):
        here += b"/" + part
        try:
            if not stat.S_ISDIR(os.lstat(here).st_mode):
                return False
        except FileNotFoundError:
            return True
    return False


def _cause(error: process.ProcessError) -> str:
    return error.cause.strip() or f"it ended with status {error.done.status}, without a word"


def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip()
