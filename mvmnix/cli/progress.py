"""What long steps look like on stderr: a line while one runs, a tick when it is done."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from mvmnix.cli.output import is_news
from mvmnix.cli.verbosity import is_quiet
from mvmnix.formats.escaping import escape
from mvmnix.plural import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text


class Steps:
    """The progress of builds and downloads (api/frontend.py), drawn by rich, which is imported for the first line."""

    def __init__(self, console: "Callable[[], Console]") -> None:
        self._make_console = console
        self._status: Status | None = None
        self._name = ""
        self._begun = 0.0
        self._files = self._bytes = 0

    @cached_property
    def _console(self) -> "Console":
        return self._make_console()

    def step(self, name: str) -> None:
        """A new step has begun; the one before is done."""
        self._begin_step(name)
        self._status = self._console.status(_plain(f"{name} …"))
        self._status.start()
        self._announce()

    def _begin_step(self, name: str) -> None:
        self.close()
        self._name, self._begun = name, time.monotonic()
        self._files = self._bytes = 0

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
        if is_news(text):
            from rich.text import Text  # noqa: PLC0415 - what shows nothing does without rich

            self._print(Text(f"mvm: {escape(text)}", "yellow"))

    def stop(self) -> None:
        """The step that runs has failed."""
        if self._status is not None:
            self._status.stop()
        self._status, self._name = None, ""

    def close(self) -> None:
        """The last step is done."""
        name = self._name
        self.stop()
        if name:
            from rich.text import Text  # noqa: PLC0415 - see above

            took = time.monotonic() - self._begun
            files = f", {counted(self._files, 'file')}" if self._files else ""
            self._print(Text.assemble(("✓", "green"), f" {escape(name)} ", (f"({took:.1f} s{files})", "dim")))

    def _announce(self) -> None:
        """Where no terminal shows what runs, a line says it: a log of a pipeline may be read while it is written."""
        if not self._console.is_terminal:
            self._print(_plain(f"… {self._name}"))

    def _print(self, line: "Text") -> None:
        """A line as long as it is: a terminal wraps it, and a file shows it whole."""
        self._console.print(line, soft_wrap=True)


def _plain(text: str) -> "Text":
    """Text that is no markup, wherever it came from."""
    from rich.text import Text  # noqa: PLC0415 - see above

    return Text(escape(text))


def _standard_error() -> "Console":
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=True, quiet=is_quiet())


@contextmanager
def steps() -> Iterator[Steps]:
    """A display on stderr for as long as the context lasts."""
    shown = Steps(_standard_error)
    try:
        yield shown
    except BaseException:
        shown.stop()
        raise
    shown.close()
