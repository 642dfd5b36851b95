"""Where checkpoints are handed to: a file, a command, or a branch of a git repository; the only writer of any of them.

An anchor is of use where those who can write the log can't also write back what it keeps: another disk, another
machine behind a command, a repository that is pushed from elsewhere. None of them is trusted: a checkpoint that comes
back from one is signed by the log's key, or it is none.
"""

import os
from dataclasses import dataclass
from typing import Final, Protocol

from mvmnix.audit.git_branch import GitBranch
from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey
from mvmnix.errors import MvmnixError
from mvmnix.formats.escaping import shell_command
from mvmnix.plural import counted
from mvmnix.system.child_causes import Cause
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import INHERITED_BY_USERS_PROGRAMS, environment, run

#: How often a commit is made anew because another process of ours was faster.
_TRIES: Final = 8


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
        return shell_command("mv", self.path, f"{self.path}.bad")

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
        return shell_command(*self.argv)

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
        return shell_command("git", f"--git-dir={self.repository}", "branch", "-m", self.branch, f"{self.branch}.bad")

    def take(self, checkpoint: Checkpoint, key: NoteKey) -> None:
        """Commit it on top of the branch, unless that has a later one."""
        branch = self._open()
        for _ in range(_TRIES):
            tip = branch.read()
            if tip.commit and _is_later(tip.content, checkpoint, key):
                return
            if branch.add(tip, checkpoint.note, f"{counted(checkpoint.size, 'record')} of {checkpoint.origin}"):
                return
        raise MvmnixError(f"the branch {self.branch} of {self.repository} moves all the time", hint="look who commits")

    def latest(self) -> bytes | None:
        """The checkpoint of the branch's last commit."""
        tip = self._open().read()
        return tip.content if tip.commit else None

    def _open(self) -> GitBranch:
        return GitBranch(self.repository, self.branch, "checkpoint", self.seconds, MAX_NOTE)


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
