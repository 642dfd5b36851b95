"""Reads the last commit of a branch of a git repository, and adds one to it; for checkpoints (anchors.py) alone.

Others may write to such a repository, so nothing in it decides what is run or where something is written:

1. The repository, and each directory and file of it that is opened here, could be changed by this user and root alone,
   and is no symbolic link (private_dirs.py).
2. git reads, in the sandbox. It gets `objects`, `packed-refs` and this one branch: no configuration, no hooks, no logs
   (sandbox/git.py).
3. Objects are written here, each in a file of its own, and so is the branch, by git's protocol for concurrent writers:
   `<branch>.lock` is made, the branch is compared with what was read, and the lock is renamed to it.
"""

import os
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix.clock import now
from mvmnix.errors import MvmnixError
from mvmnix.formats.escaping import shell_command
from mvmnix.sandbox import git
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import GIT, locate
from mvmnix.system.child_causes import Cause
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import ProcessError

_MIB: Final = 1 << 20
#: How often the lock of a branch is tried while another has it, and the pause before the next try, in seconds.
_LOCK_TRIES, _LOCK_PAUSE = 50, 0.02
#: What the file of a branch holds. One that names another branch (git-symbolic-ref(1)) is not followed.
_COMMIT: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\n?")
#: Bytes of the files of a repository that are read here.
_MAX_REF, _MAX_CONFIG, _MAX_PACKED = 1024, _MIB, 64 * _MIB
#: $1 the branch, $2 a file of its tree, then the branches that can't be beside it. Prints the last commit, and the
#: file's bytes; nothing where there is no such branch, and none in its way.
_READ: Final = r"""
# by its full name: rev-parse alone would go on to refs/tags/refs/heads/...
status=0
git show-ref --verify --quiet "$1" || status=$?
if [ "$status" = 0 ]; then
  git rev-parse --verify "$1"
  exec git cat-file blob "$1:$2"
fi
[ "$status" = 1 ]
beside=$(git for-each-ref --count=1 --format='%(refname)' "$1/")
shift 2
for above; do
  if git show-ref --verify --quiet "$above"; then beside=$above; fi
done
if [ -n "$beside" ]; then
  echo "fatal: $beside is in its way" >&2
  exit 1
fi
"""


@dataclass(frozen=True, slots=True)
class Tip:
    """A branch when it was read: its last commit, and the bytes of the file there; both are empty before the first.

    `value` tells whether it has moved since: the bytes of its own file, None without one, and all packed refs.
    """

    commit: str
    content: bytes
    value: tuple[bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class GitBranch:
    """A branch of the repository in the directory `path`; each of its commits has one file.

    `seconds` is how long git may take, `limit` how many bytes of the file are read.
    """

    path: str
    name: str
    file: str
    seconds: int
    limit: int

    @property
    def hint(self) -> str:
        """A command for the shell, which finds what is wrong with the repository."""
        return f"look at the repository: {shell_command('git', f'--git-dir={self.path}', 'fsck')}"

    def read(self) -> Tip:
        """Read the last commit. Raises MvmnixError, OSError."""
        locate(GIT)  # or it says what to install
        with self._repository() as repository, repository.existing("objects") as objects:
            # in this order: git writes packed refs before it removes the branch's own file
            own = self._read_own(repository)
            packed = _read_packed(repository)
            files: dict[str, Path | int | bytes] = {
                **git.repository_files(sha256=_is_sha256(repository)),
                f"{git.REPOSITORY}/objects": objects.fd,
                f"{git.REPOSITORY}/packed-refs": packed,
                f"{git.REPOSITORY}/HEAD": b"ref: refs/heads/none\n",
                f"{git.REPOSITORY}/refs/.directory": b"",
            }
            if own is not None:
                files[f"{git.REPOSITORY}/{self._ref}"] = own
            bounds = Bounds(self.seconds, 16 * _MIB, 1024 * _MIB, self.limit + _MAX_REF)
            try:
                sandbox = Sandbox(files, {"GIT_DIR": git.REPOSITORY}, bounds=bounds)
                said = sandbox.script(_READ, self._ref, self.file, *self._ancestors).stdout
            except ProcessError as error:
                if error.kind is not Cause.OWN:
                    raise
                why = f"git can't read {self.name} of {self.path}: {error.cause}"
                raise MvmnixError(why, hint=self.hint) from error
        commit, _, content = said.partition(b"\n")
        if commit and not _COMMIT.fullmatch(commit):
            raise MvmnixError(f"git says something else than expected of {self.name} in {self.path}", hint=self.hint)
        if len(content) > self.limit:
            why = f"`{self.file}` of {self.name} of {self.path} has more than {self.limit} bytes"
            raise MvmnixError(why, hint=self.hint)
        return Tip(commit.decode(), content, (own, packed))

    def add(self, tip: Tip, content: bytes, message: str) -> bool:
        """Add a commit on top of `tip`, unless the branch has moved. Return whether it was added.

        Raises MvmnixError, OSError.
        """
        with self._repository() as repository:
            sha256 = _is_sha256(repository)
            with repository.existing("objects") as objects:
                blob = _write(objects, "blob", content, sha256=sha256)
                entry = b"100644 %s\0%s" % (self.file.encode(), bytes.fromhex(blob))
                who = f"mvm <mvm@localhost> {int(now().timestamp())} +0000"
                lines = (
                    f"tree {_write(objects, 'tree', entry, sha256=sha256)}",
                    *((f"parent {tip.commit}",) if tip.commit else ()),
                    *(f"author {who}", f"committer {who}", "", message, ""),
                )
                commit = _write(objects, "commit", "\n".join(lines).encode(), sha256=sha256)
            return self._move(repository, tip, commit)

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.name}"

    @property
    def _directories(self) -> tuple[str, ...]:
        """Of the branch's own file, from the repository on."""
        return ("refs", "heads", *self.name.split("/")[:-1])

    @property
    def _last(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def _ancestors(self) -> list[str]:
        """The branches `a` and `a/b`, which can't be beside `a/b/c`."""
        parts = self.name.split("/")
        return [f"refs/heads/{'/'.join(parts[:count])}" for count in range(1, len(parts))]

    @contextmanager
    def _repository(self) -> Iterator[Directory]:
        with Directory.open(self.path) as repository:
            if not repository.exists("objects"):
                hint = "name the directory with `objects` and `refs` in it; a new one: git init --bare DIR"
                raise MvmnixError(f"{self.path} is not a git repository", hint=hint)
            if repository.exists("reftable"):
                hint = shell_command("git", f"--git-dir={self.path}", "refs", "migrate", "--ref-format=files")
                raise MvmnixError(f"the branches of {self.path} are kept as reftable, which isn't supported", hint=hint)
            yield repository

    def _read_own(self, repository: Directory) -> bytes | None:
        """The bytes of the branch's own file; None without one."""
        with ExitStack() as stack:
            here = repository
            try:
                for name in self._directories:
                    here = stack.enter_context(here.existing(name))
                data = here.read(self._last, _MAX_REF)
            except FileNotFoundError:
                return None
        if not _COMMIT.fullmatch(data):
            hint = "name a branch in its own right, not a symbolic ref"
            raise MvmnixError(f"{self._ref} of {self.path} does not name a commit", hint=hint)
        return data

    def _move(self, repository: Directory, tip: Tip, commit: str) -> bool:
        """Have the branch name this commit, unless it has moved since `tip`."""
        lock = f"{self._last}.lock"
        with ExitStack() as stack:
            here = repository
            try:
                for name in self._directories:
                    here = stack.enter_context(here.child(name, 0o755))
                fd = _create(here, lock)
            except FileNotFoundError:  # git has packed what was in a directory, and removed that
                return False
            try:
                with os.fdopen(fd, "wb") as file:
                    is_there = (self._read_own(repository), _read_packed(repository)) == tip.value
                    file.write(f"{commit}\n".encode())
                    file.flush()
                    os.fsync(fd)
                if is_there:
                    here.rename(lock, self._last, durable=False)
                else:
                    here.remove(lock)
            except BaseException:
                here.remove(lock)
                raise
            here.sync()
            return is_there


def _create(directory: Directory, lock: str) -> int:
    """A descriptor of a new lock file, which others may have for a while."""
    for _ in range(_LOCK_TRIES):
        try:
            return directory.create_file(lock, 0o644)
        except FileExistsError:
            time.sleep(_LOCK_PAUSE)
    path = directory.where(lock)
    look, remove = shell_command("fuser", path), shell_command("rm", path)
    hint = f"see whether a git works there ({look}); if none does: {remove}"
    raise MvmnixError(f"{path} is there: a git works on the branch, or one was killed", hint=hint)


def _read_packed(repository: Directory) -> bytes:
    return _read(repository, "packed-refs", _MAX_PACKED)


def _is_sha256(repository: Directory) -> bool:
    return git.is_sha256(_read(repository, "config", _MAX_CONFIG))


def _read(directory: Directory, name: str, limit: int) -> bytes:
    """The bytes of a file; none where there is none."""
    try:
        return directory.read(name, limit)
    except FileNotFoundError:
        return b""


def _write(objects: Directory, kind: str, data: bytes, *, sha256: bool) -> str:
    """Store an object, and return its name."""
    name = git.object_name(kind, data, sha256=sha256)
    with objects.child(name[:2], 0o755) as directory:
        if not directory.exists(name[2:]):
            directory.write_atomic(name[2:], zlib.compress(git.object_header(kind, data) + data), 0o444)
    return name
