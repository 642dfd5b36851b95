"""Reads a git repository of the user's, through git in the sandbox: commit, tree and changes; nothing is written.

A repository is as hostile as the flake in it: its configuration names programs, so git doesn't get it (repository.py),
and its objects are read by their hash alone (`ObjectReader`). git works where nothing can be reached.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from mvmnix.builder.flakes.comparison import Comparison
from mvmnix.builder.flakes.git_objects import MAX_COMMIT, ObjectReader
from mvmnix.builder.flakes.repository import Found, copy_of, found_repository
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats import nar
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import GIT, locate
from mvmnix.system import process
from mvmnix.system.child_causes import Cause

#: git-cat-file(1): what answers the questions here.
CONVERSATION: Final = ("cat-file", "--batch-command", "--buffer")

_MIB: Final = 1 << 20
#: git maps packs, and takes objects apart in memory; a repository that needs more is refused.
_BOUNDS: Final = Bounds(seconds=300, room=256 * _MIB, memory=2048 * _MIB, output=64 * _MIB)
#: $1 the commit. The index has its own time again, for git compares the contents of files that are as new. A submodule
#: that it lists differs from the commit, which has none, and is taken out of the copy: git would enter it, and read its
#: configuration. An index also says which files are unchanged, by flags and by their times, so the files that are there
#: are compared with the commit once more, by their contents: by an index that knows nothing of them.
_CHANGES: Final = r"""
cd "$GIT_WORK_TREE"
if [ -e "$GIT_DIR/index" ]; then
  cp "$GIT_DIR/index" "$TMPDIR/index"
  touch -d "@$INDEX_TIME" "$TMPDIR/index"
  export GIT_INDEX_FILE="$TMPDIR/index"
fi
git ls-files --stage -z | sed -nz 's/^160000 [0-9a-f]* [0-3]\t//p' >"$TMPDIR/submodules"
if [ -s "$TMPDIR/submodules" ]; then
  sed -z 's/^/A  /' "$TMPDIR/submodules"
  git update-index -z --force-remove --stdin <"$TMPDIR/submodules"
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
#: Answers questions about objects until its input ends; then lists the index: mode, object, stage and path of files.
_READ: Final = r"""
git "$@"
cd "$GIT_WORK_TREE"
exec git ls-files --cached --stage -z
"""


@dataclass(frozen=True, slots=True)
class WorkTree:
    """A git work tree when it was read.

    `top` is its directory, `commit` what HEAD names, `tree` the commit's tree; `changes` are the names (`os.fsdecode`)
    of tracked files that differ from the commit, in the work tree or the index, sorted. `index` is the index's digest
    (`Found.index`) where it and the work tree have the commit's files, byte for byte; else None.
    """

    top: Path
    commit: str
    tree: nar.Dir
    changes: tuple[str, ...]
    index: Digest | None


def read_work_tree(where: Path, limit: int) -> WorkTree:
    """Read the git work tree around an absolute directory. Refuses a commit with more than `limit` bytes of files.

    1. The commit's tree is read from its objects alone, each hashed.
    2. Meanwhile each of its files is compared with the one in the work tree, byte by byte.
    3. The index is compared with the commit.
    4. Only where 2 or 3 found a difference, git says what changed: it knows attributes, sparse trees and submodules.
       The tree was read by then, for git has no bounds on what a tree stands for.

    Raises RefusedError [flake-unsupported] where there is no such work tree, MvmnixError without git.
    """
    stage = _Stage(_no_commit(where))
    with found_repository(where) as repository:
        with (
            _blaming(where, stage),
            _sandbox(repository).talk(_READ, *CONVERSATION) as (to, heard),
            Comparison(repository.tree) as comparison,
        ):
            reader = ObjectReader(to, heard, str(where))
            commit = _committed(where, reader.head())
            stage.blame = _Blame(f"git can't read its objects, or not within {_BOUNDS.memory >> 20} MiB", "git fsck")
            tree = reader.tree(commit, limit, comparison.add)  # 1, 2
            stage.blame = _Blame("git can't compare it with its commit", "git status")
            to.close()
            is_same = comparison.is_listed(_listing(heard, where)) and comparison.is_same  # 3
        changes = () if is_same else _changes(repository, where, commit)  # 4
        return WorkTree(repository.top, commit, tree, changes, repository.index if is_same else None)


def _committed(where: Path, head: bytes) -> str:
    """The name of the commit, from what git says of HEAD."""
    match head.decode("ascii", "replace").split():
        case [oid, "commit", size] if int(size) <= MAX_COMMIT:
            return oid
        case [_, "commit", size]:
            why, hint = f"its commit has {size} bytes, more than {MAX_COMMIT}", "make a commit with a shorter message"
        case _:
            why, hint = "it is not a git work tree with a commit: HEAD names none", _no_commit(where).hint
    raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, hint)


def _listing(heard: IO[bytes], where: Path) -> bytes:
    """The rest of what git prints: its list of the index."""
    data = heard.read(_BOUNDS.output + 1)
    if len(data) > _BOUNDS.output:
        why = f"its index lists more than {_BOUNDS.output} bytes of names"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, "make the index anew: git read-tree HEAD")
    return data


def _changes(repository: Found, where: Path, commit: str) -> tuple[str, ...]:
    """The names of what differs from the commit, by git. For a repository whose tree was read."""
    with _blaming(where, _Stage(_Blame("git can't compare it with its commit", "git status"))):
        printed = _sandbox(repository).script(_CHANGES, commit).stdout
    names = {
        entry[3:]
        for entry in printed.split(b"\0")
        if entry and not (entry.startswith(_NOT_FOUND) and _is_absent(repository.top, entry[3:]))
    }
    return tuple(sorted(map(os.fsdecode, names)))


def tracked_files(where: Path) -> tuple[Path, tuple[bytes, ...]]:
    """The top of the work tree around a directory, and the paths from there of the files in its index.

    No commit is needed. Raises RefusedError [flake-unsupported] where there is no work tree, and for paths that lead
    elsewhere or into a repository: git itself looks at a path when it is added, and takes an index as it is.
    """
    with found_repository(where) as repository:
        listed = _said(repository, where, _LIST)
    names = tuple(sorted({name for name in listed.split(b"\0") if name}))
    if (bad := next((name for name in names if _NO_FILES & {*name.lower().split(b"/")}), None)) is not None:
        why = f"its index lists {_text(bad)}, which is not a file of a work tree"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, "make the index anew: git read-tree HEAD")
    return repository.top, names


def _said(repository: Found, where: Path, script: str) -> bytes:
    with _blaming(where, _Stage(_no_commit(where))):
        return _sandbox(repository).script(script).stdout


@dataclass(frozen=True, slots=True)
class _Blame:
    """What a repository is refused for, and what to do, where a git fails in one of these ways."""

    why: str
    hint: str
    kinds: frozenset[Cause] = _ITS_OWN


def _no_commit(where: Path) -> _Blame:
    hint = f"commit it, or take it as an uncommitted copy: {copy_of(where)}"
    return _Blame("it is not a git work tree with a commit", hint, frozenset({Cause.OWN}))


class _Stage:
    """How far a conversation with git has come: `blame` is for a failure from here on."""

    def __init__(self, blame: _Blame) -> None:
        self.blame = blame


@contextmanager
def _blaming(where: Path, stage: _Stage) -> Iterator[None]:
    """Refuse a repository for a git that fails."""
    try:
        yield
    except process.ProcessError as error:
        if error.kind not in stage.blame.kinds:
            raise
        cause = error.cause.strip() or f"it ended with status {error.done.status}, without a word"
        why = f"{stage.blame.why}: {cause}"
        raise refuse(ReasonCode.FLAKE_UNSUPPORTED, str(where), why, stage.blame.hint) from error


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


def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip()
