"""Tries a mutation: writes it into a copy of the tree, runs the tests that should notice, and puts the copy back."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from tests.mutants.mutations import Mutation
from tests.repository import ROOT, tracked

#: Seconds for tests that took less than one; others get a multiple of what they took without a mutation.
_LEAST: Final = 60
_MULTIPLE: Final = 5
#: Bytes that a process may have: a loop that lost its end takes no more.
_MEMORY: Final = 4 << 30


class Outcome(StrEnum):
    """What became of a mutation."""

    CAUGHT = "caught"
    TOOK_TOO_LONG = "took too long"
    SURVIVED = "survived"
    LEFT_OUT = "left out"


@dataclass(slots=True)
class Tree:
    """A copy of the tracked files, and how many seconds tests take without a mutation, which copies may share."""

    path: Path
    took: dict[tuple[str, ...], float] = field(default_factory=dict)
    _written: int = 0

    @classmethod
    def copied(cls, path: Path, took: dict[tuple[str, ...], float], root: Path = ROOT) -> Self:
        """Of this tree as it is now. Its commit is not copied: tests that ask git are none of those that run here."""
        for name in tracked(root):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, path / name)
        return cls(path, took)

    def tried(self, module: Path, mutation: Mutation, tests: Sequence[str]) -> Outcome:
        """Whether these tests notice. Raises RuntimeError when they fail without the mutation."""
        limit = max(_LEAST, _MULTIPLE * self._baseline(_outermost(tests, module)))
        source = (self.path / module).read_bytes()
        try:
            self._write(module, mutation.applied(source))
            status = self._run(tests, limit)
        finally:
            self._write(module, source)
        if status is None:
            return Outcome.TOOK_TOO_LONG
        return Outcome.CAUGHT if status else Outcome.SURVIVED

    def _baseline(self, tests: tuple[str, ...]) -> float:
        if tests not in self.took:
            before = time.monotonic()
            if (status := self._run(tests, 1800)) != 0:
                raise RuntimeError(f"without a mutation these end with {status}: {' '.join(tests)}")
            self.took[tests] = time.monotonic() - before
        return self.took[tests]

    def _write(self, module: Path, source: bytes) -> None:
        """With a time of its own: compiled modules are told apart by size and second."""
        self._written += 1
        (self.path / module).write_bytes(source)
        os.utime(self.path / module, (self._written, self._written))

    def _run(self, tests: Sequence[str], limit: float) -> int | None:
        """The exit code of pytest, None after the limit. What it starts, it takes along: it is a PID namespace's."""
        argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        argv += [] if os.geteuid() == 0 else ["--map-current-user"]
        argv += ["prlimit", f"--data={_MEMORY}", sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        argv += ["-m", "not vm", "-o", "python_classes="]  # a module is named for its examples, not for its classes
        environment = {**os.environ, "PYTHONPATH": str(self.path)}
        with subprocess.Popen(
            [*argv, *tests],
            cwd=self.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as running:
            try:
                return running.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                return None


def _outermost(tests: Sequence[str], module: Path) -> tuple[str, ...]:
    """Without the module's own examples, and without what lies in another of them."""
    paths = [Path(it) for it in tests if it != str(module)]
    inner = {one for one in paths for other in paths if one != other and one.is_relative_to(other)}
    return tuple(sorted(str(it) for it in paths if it not in inner))
