"""What long steps look like on stderr: a line while one runs, a tick when it is done; logs go to a file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

from mvmnix.escaping import escape
from mvmnix.plural import counted

#: Bytes of a builder's words that are kept.
MOST_LOGGED = 64 * 1024 * 1024


class Steps:
    """The progress port of builds and downloads, drawn by rich. `log` takes what a builder says, unescaped."""

    def __init__(self, console: Console, log: BinaryIO) -> None:
        self._console = console
        self._log = log
        self._status: Status | None = None
        self._name = ""
        self._begun = 0.0
        self._files = self._bytes = 0
        self._logged = 0

    def step(self, name: str) -> None:
        """A new step has begun; the one before is done."""
        self._done()
        self._name, self._begun = name, time.monotonic()
        self._files = self._bytes = 0
        self._status = self._console.status(_plain(f"{name} …"))
        self._status.start()

    def step_alone(self, name: str) -> None:
        """A new step that forks: no thread of ours may draw meanwhile."""
        self._done()
        self._name, self._begun = name, time.monotonic()

    def log(self, data: bytes) -> None:
        """Something for the log, which ends when it has grown too long: a build that floods it fills no disk."""
        room = MOST_LOGGED - self._logged
        if room <= 0:
            return
        self._logged += len(data)
        self._log.write(data[:room])
        if self._logged >= MOST_LOGGED:
            self._log.write(f"\nmvm: the log ends here, after {MOST_LOGGED} bytes\n".encode())
        self._log.flush()

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
    """Words that are no markup, whoever wrote them."""
    return Text(escape(text))


@contextmanager
def steps(log: BinaryIO) -> Iterator[Steps]:
    """A display on stderr for as long as the context lasts."""
    shown = Steps(Console(stderr=True), log)
    try:
        yield shown
    except BaseException:
        shown.stop()
        raise
    shown.close()
