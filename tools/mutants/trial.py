"""Tries a mutation: writes it into a copy of the tree, runs the tests that should notice, and puts the copy back."""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from tests.repository import ROOT, tracked
from tools.mutants.mutations import Mutation
from tools.mutants.recording import Recording
from tools.mutants.warm import Request

#: Seconds for tests that took less than one; others get a multiple of what they took without a mutation.
_LEAST: Final = 60
_MULTIPLE: Final = 5
#: Exit codes of pytest: all passed, none was found (as when a mutation leaves a table empty).
_PASSED: Final = frozenset({0, 5})
#: Seconds for all tests at once, and more than a run of them for what stands around it.
_RECORDING: Final = 3600
_GRACE: Final = 60
#: Characters of what failing tests print.
_TOLD: Final = 8000


class Outcome(StrEnum):
    """What became of a mutation."""

    CAUGHT = "caught"
    TOOK_TOO_LONG = "took too long"
    SURVIVED = "survived"
    NOT_EXECUTED = "survived: no test executes it"
    LEFT_OUT = "left out"


SURVIVORS: Final = frozenset({Outcome.SURVIVED, Outcome.NOT_EXECUTED})


@dataclass(slots=True)
class Tree:
    """A copy of the tracked files, and the process that runs tests there."""

    path: Path
    _written: int = 0
    _running: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @classmethod
    def copied(cls, path: Path, root: Path = ROOT) -> Self:
        """Of this tree as it is now. Its commit is not copied: tests that ask git are none of those that run here."""
        for name in tracked(root):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, path / name)
        return cls(path)

    def __enter__(self) -> Self:
        """Start the process. It ends when its input does, and what it started with it."""
        argv = [sys.executable, "-P", "-m", "tools.mutants.warm"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self._running = subprocess.Popen(argv, cwd=self.path, env=environment, stdin=pipe, stdout=pipe)
        return self

    def __exit__(self, *_: object) -> None:
        """End it: it does so at the end of its input, when it has killed what a run left."""
        if self._running is not None:
            self._running.communicate()

    def recorded(self, tests: Iterable[str]) -> list[str]:
        """Run tests without a mutation; returns the records. Raises RuntimeError when they fail."""
        record, output = self._beside("record"), self._beside("output")
        record.unlink(missing_ok=True)
        request = Request(self._arguments(tests), _RECORDING, record=str(record), output=str(output))
        if (status := self._run(request)) != 0:
            raise RuntimeError(f"without a mutation the tests end with {status}: {output.read_text()[-_TOLD:]}")
        return record.read_text().splitlines()

    def check(self, module: Path, mutation: Mutation, tests: Sequence[str], recording: Recording) -> None:
        """Raise RuntimeError when the tests of a mutation notice where there is none."""
        source = (self.path / module).read_bytes()
        without = replace(mutation, new=source[mutation.start : mutation.end])
        if (outcome := self.tried(module, without, tests, recording)) not in SURVIVORS:
            raise RuntimeError(f"{module}:{mutation.line}: {outcome} without a mutation")

    def tried(self, module: Path, mutation: Mutation, tests: Sequence[str], recording: Recording) -> Outcome:
        """Whether those of these tests notice that run what it changes."""
        source = (self.path / module).read_bytes()
        selected = recording.selected(module, source, mutation, tests)
        if not selected.files:
            return Outcome.NOT_EXECUTED
        limit = max(_LEAST, _MULTIPLE * selected.seconds)
        arguments = self._arguments(selected.files)
        try:
            self._write(module, mutation.applied(source))
            status = self._run(Request(arguments, limit, recording.modules, selected.first, selected.alone))
        finally:
            self._write(module, source)
        if status is None:
            return Outcome.TOOK_TOO_LONG
        return Outcome.SURVIVED if status in _PASSED else Outcome.CAUGHT

    def _arguments(self, files: Iterable[str]) -> list[str]:
        options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "--basetemp", str(self._beside("temporary"))]
        options += ["-m", "not vm", "-o", "python_classes="]  # a module is named for its examples, not for its classes
        return [*options, *files]

    def _beside(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}-{name}")

    def _write(self, module: Path, source: bytes) -> None:
        """With a time of its own: compiled modules are told apart by size and second."""
        self._written += 1
        (self.path / module).write_bytes(source)
        os.utime(self.path / module, (self._written, self._written))

    def _run(self, request: Request) -> int | None:
        """The exit code of pytest, None after the limit."""
        if self._running is None or self._running.stdin is None or self._running.stdout is None:
            raise RuntimeError("no process runs tests here")
        self._running.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
        self._running.stdin.flush()
        if not select.select([self._running.stdout], [], [], request.seconds + _GRACE)[0]:
            raise RuntimeError("what runs tests does not answer")
        answer: int | None = json.loads(self._running.stdout.readline())
        return answer
