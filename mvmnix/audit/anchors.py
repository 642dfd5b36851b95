"""Where checkpoints are handed to: a file, a command, or a branch of a git repository; the only writer of any of them.

An anchor is of use where those who can write the log can't also write back what it keeps: another disk, another
machine behind a command, a repository that is pushed from elsewhere. None of them is trusted: a checkpoint that comes
back from one is signed by the log's key, or it is none.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey
from mvmnix.child_causes import Cause
from mvmnix.errors import MvmnixError
from mvmnix.plural import counted
from mvmnix.private_dirs import Directory
from mvmnix.process import INHERITED_BY_USERS_PROGRAMS, Completed, ProcessError, environment, run
from mvmnix.sandbox import GIT, locate

#: How the one file in the tree of a git anchor is called.
_FILE: Final = "checkpoint"
#: How often a commit is made anew because another process of ours was faster.
_TRIES: Final = 8
#: Neither hooks nor a user's configuration takes part; the author is no person.
_OPTIONS: Final = (
    *("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"),
    *("-c", "user.name=mvm", "-c", "user.email=mvm@localhost"),
)
#: And nothing is fetched: a repository's configuration says by which program, and objects that are missing would be
#: (partial clone). git before 2.45 doesn't know the first of the two; the second is a list of protocols, of none.
_GIT_ENVIRONMENT: Final[Mapping[str, str]] = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
}


class Anchor(Protocol):
    """A keeper of checkpoints. `required` says that nothing starts without them."""

    @property
    def name(self) -> str:
        """The user's name for it."""

    @property
    def required(self) -> bool:
        """Whether nothing starts when it can't be reached."""

    @property
    def where(self) -> str:
        """What it is, for messages."""

    @property
    def put_away(self) -> str:
        """The command that moves what it keeps out of the way; empty when it gives nothing back."""

    def take(self, checkpoint: Checkpoint, key: NoteKey) -> None:
        """Keep this one, unless a later one is kept already. Raises MvmnixError or OSError."""

    def latest(self) -> bytes | None:
        """The note that is kept; None when there is none yet, or the anchor doesn't give it back. Raises as `take`."""


@dataclass(frozen=True, slots=True)
class FileAnchor:
    """The latest checkpoint in a file, in a directory that no other user can write to; replaced atomically."""

    name: str
    required: bool
    path: str

    @property
    def where(self) -> str:
        """The file."""
        return self.path

    @property
    def put_away(self) -> str:
        """A command for the shell."""
        return shlex.join(("mv", self.path, f"{self.path}.bad"))

    def take(self, checkpoint: Checkpoint, key: NoteKey) -> None:
        """Keep this one, unless a later one is kept already."""
        where, file = os.path.split(self.path)
        with Directory.open(where) as directory, directory.lock(f"{file}.lock"):
            if not _is_later(_read(directory, file), checkpoint, key):
                directory.write_atomic(file, checkpoint.note)

    def latest(self) -> bytes | None:
        """The file's bytes."""
        where, file = os.path.split(self.path)
        with Directory.open(where) as directory:
            return _read(directory, file)


@dataclass(frozen=True, slots=True)
class CommandAnchor:
    """A command that gets each checkpoint on its standard input, and has `seconds` to end with 0."""

    name: str
    required: bool
    argv: tuple[str, ...]
    seconds: int

    @property
    def where(self) -> str:
        """The command."""
        return shlex.join(self.argv)

    @property
    def put_away(self) -> str:
        """Nothing: it never contradicts."""
        return ""

    def take(self, checkpoint: Checkpoint, key: NoteKey) -> None:
        """Run it. It may get an older one after a later one, from another process of ours."""
        del key
        env = environment(INHERITED_BY_USERS_PROGRAMS)
        hint = f"see why the command of the anchor {self.name} fails"
        late = f"see why it takes so long, or raise `seconds` of the anchor {self.name}"
        hints = {Cause.MISSING: f"correct the command of the anchor {self.name}", Cause.LATE: late}
        run(self.argv, env=env, input_=checkpoint.note, timeout=self.seconds, hint=hint, hints=hints)

    def latest(self) -> bytes | None:
        """Nothing: what it keeps, it keeps."""
        return None


@dataclass(frozen=True, slots=True)
class GitAnchor:
    """A branch that gets a commit for each checkpoint, in a repository of this machine; it is pushed by others."""

    name: str
    required: bool
    repository: str
    branch: str
    seconds: int

    @property
    def where(self) -> str:
        """The branch, and of which repository."""
        return f"{self.branch} of {self.repository}"

    @property
    def put_away(self) -> str:
        """A command for the shell."""
        return shlex.join(("git", f"--git-dir={self.repository}", "branch", "-m", self.branch, f"{self.branch}.bad"))

    def take(self, checkpoint: Checkpoint, key: NoteKey) -> None:
        """Commit it on top of the branch, unless that has a later one."""
        for _ in range(_TRIES):
            parent = self._tip()
            if parent and _is_later(self._note(parent), checkpoint, key):
                return
            blob = self._git("hash-object", "-w", "--stdin", input_=checkpoint.note)
            tree = self._git("mktree", input_=f"100644 blob {blob}\t{_FILE}\n".encode())
            line = ("-p", parent) if parent else ()
            commit = self._git(
                "commit-tree", tree, *line, "-m", f"{counted(checkpoint.size, 'record')} of {checkpoint.origin}"
            )
            try:
                self._git("update-ref", self._ref, commit, parent or "0" * len(commit))
            except ProcessError:
                if self._tip() == parent:
                    raise
            else:
                return
        raise MvmnixError(f"the branch {self.branch} of {self.repository} moves all the time", hint="look who commits")

    def latest(self) -> bytes | None:
        """The checkpoint of the branch's last commit."""
        tip = self._tip()
        return self._note(tip) if tip else None

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.branch}"

    def _tip(self) -> str:
        """The last commit; an empty string before the first."""
        done = self._run("rev-parse", "--verify", "--quiet", self._ref, check=False)
        if done.status not in {0, 1}:
            raise ProcessError(done, hint=self._hint)
        return done.stdout.decode().strip()

    def _note(self, commit: str) -> bytes:
        """Each object on the way is asked for its size first: who writes to the repository may keep any there."""
        blob = f"{commit}:{_FILE}"
        for each in (commit, f"{commit}^{{tree}}", blob):
            size = self._git("cat-file", "-s", each)
            if int(size) > MAX_NOTE:
                raise MvmnixError(f"{self.where} keeps no checkpoint, but {size} bytes in {each}", hint=self._hint)
        return self._run("cat-file", "blob", blob).stdout

    def _git(self, *words: str, input_: bytes = b"") -> str:
        return self._run(*words, input_=input_).stdout.decode().strip()

    def _run(self, *words: str, input_: bytes = b"", check: bool = True) -> Completed:
        argv = (locate(GIT), *_OPTIONS, f"--git-dir={self.repository}", *words)
        env = environment(extra=_GIT_ENVIRONMENT)
        late = f"see what holds {self.repository}, or raise `seconds` of the anchor {self.name}"
        hints = {Cause.LATE: late, Cause.MISSING: GIT.hint}
        return run(argv, env=env, input_=input_, timeout=self.seconds, check=check, hint=self._hint, hints=hints)

    @property
    def _hint(self) -> str:
        return f"look at the repository of the anchor {self.name}: git --git-dir={shlex.quote(self.repository)} fsck"


def _read(directory: Directory, name: str) -> bytes | None:
    try:
        return directory.read(name, MAX_NOTE)
    except FileNotFoundError:
        return None


def _is_later(note: bytes | None, checkpoint: Checkpoint, key: NoteKey) -> bool:
    """Whether an anchor has seen more than this. Raises MvmnixError when it keeps something else, or another past."""
    if note is None:
        return False
    try:
        kept = Checkpoint.verified(note, key)
    except NoteError as error:
        hint = "give each log an anchor of its own; after a change of the host's key, move the old checkpoint away"
        raise MvmnixError(f"what it keeps is not a checkpoint of this log: {error}", hint=hint) from error
    if kept.size == checkpoint.size and kept.root != checkpoint.root:
        raise MvmnixError(
            f"it has seen another record {kept.size - 1}: the log was forked", hint="keep both as evidence"
        )
    return kept.size > checkpoint.size
