"""What long steps look like on stderr: a line while one runs, a tick when it is done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from mvmnix.cli.verbosity import is_quiet
from mvmnix.escaping import escape
from mvmnix.plural import counted


class Steps:
    """The progress of builds and downloads (api/progress.py), drawn by rich."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._name = ""
        self._begun = 0.0
        self._files = self._bytes = 0

    def step(self, name: str) -> None:
        """A new step has begun; the one before is done."""
        self._done()
        self._name, self._begun = name, time.monotonic()
        self._files = self._bytes = 0
        self._status = self._console.status(_plain(f"{name} …"))
        self._status.start()

    def single_step(self, name: str) -> None:
        """A new step that forks: no thread of ours may draw meanwhile."""
        self._done()
        self._name, self._begun = name, time.monotonic()

    def log(self, data: bytes) -> None:
        """What a builder says is in its log file, and not shown."""

    def total(self, files: int) -> None:
        """So many files will be fetched."""
        if self._status is not None and files:
            self._status.update(_plain(f"{self._name}: {counted(files, 'file')} …"))

    def advance(self, name: str, size: int) -> None:
        """A file arrived."""
        self._files += 1
        self._bytes += size
        if self._status is not None:
            arrived = f"{counted(self._files, 'file')}, {self._bytes >> 20} MiB, {escape(name)[:50]}"
            self._status.update(_plain(f"{self._name}: {arrived}"))

    def received(self, url: str, size: int, total: int | None) -> None:
        """More of a large file arrived."""
        if self._status is not None:
            of = "" if total is None else f" of {total >> 20}"
            name = escape(url.rpartition("/")[2])[:50]
            self._status.update(_plain(f"{self._name}: {counted(self._files, 'file')}, {name}: {size >> 20}{of} MiB"))

    def notice(self, text: str) -> None:
        """A line that stays."""
        self._console.print(escape(text), style="yellow", highlight=False, markup=False)

    def close(self) -> None:
        """The last step is done."""
        self._done()

    def stop(self) -> None:
        """The step that runs has failed."""
        if self._status is not None:
            self._status.stop()
        self._status, self._name = None, ""

    def _done(self) -> None:
        name = self._name
        self.stop()
        if name:
            took = time.monotonic() - self._begun
            files = f", {counted(self._files, 'file')}" if self._files else ""
            self._console.print(Text.assemble(("✓", "green"), f" {escape(name)} ", (f"({took:.1f} s{files})", "dim")))


def _plain(text: str) -> Text:
    """Text that is no markup, wherever it came from."""
    return Text(escape(text))


@contextmanager
def steps() -> Iterator[Steps]:
    """A display on stderr for as long as the context lasts."""
    shown = Steps(Console(stderr=True, quiet=is_quiet()))
    try:
        yield shown
    except BaseException:
        shown.stop()
        raise
    shown.close()
