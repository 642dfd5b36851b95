"""How much mvm says on stderr beside failures: notices and progress, nothing, or what it does as well."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TextIO, override

import click

from mvmnix.errors import UsageError
from mvmnix.formats.escaping import escape_line

VARIABLE: Final = "MVMNIX_LOG"
_LEVELS: Final = ("info", "debug")
_LOGGER: Final = "mvmnix"
_FORMAT: Final = "mvm: %(relativeCreated)d ms: %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class Verbosity:
    """`level` is what is logged: `info`, `debug`, or "" for nothing. Raises UsageError for what excludes each other."""

    quiet: bool
    level: str

    def __post_init__(self) -> None:
        if self.level and self.level not in _LEVELS:
            raise UsageError(f"{VARIABLE} is none of {', '.join(_LEVELS)}: {self.level!r}", hint=f"{VARIABLE}=info")
        if self.quiet and self.level:
            raise UsageError(f"--quiet excludes --verbose and {VARIABLE}", hint="give one of them")


def set_up(quiet: bool, verbose: int, environment: Mapping[str, str]) -> Verbosity:
    """What the options before the command and the environment say; what is logged goes to stderr from here on."""
    found = Verbosity(quiet, _LEVELS[min(verbose, len(_LEVELS)) - 1] if verbose else environment.get(VARIABLE, ""))
    if found.level:
        _listen(found.level)
    elif "logging" in sys.modules:
        _stop_listening()
    return found


def is_quiet() -> bool:
    """Whether the command that runs in this thread was told to be quiet."""
    context = click.get_current_context(silent=True)
    found = None if context is None else context.find_root().obj
    return isinstance(found, Verbosity) and found.quiet


def _listen(level: str) -> None:
    """Have mvm's own loggers write to stderr, each message in one line and escaped; those of libraries don't."""
    import logging  # noqa: PLC0415 - few ask for it, and it takes longer to import than some commands take

    class Line(logging.Formatter):
        """One line of text, whatever a server or a guest named."""

        @override
        def format(self, record: logging.LogRecord) -> str:
            return escape_line(super().format(record))

    class Stderr(logging.StreamHandler[TextIO]):
        """Standard error; what it doesn't take changes nothing."""

        @override
        def handleError(self, record: logging.LogRecord) -> None:
            return

    handler = Stderr(sys.stderr)
    handler.setFormatter(Line(_FORMAT))
    _stop_listening()
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


def _stop_listening() -> None:
    import logging  # noqa: PLC0415 - it is imported already

    logger = logging.getLogger(_LOGGER)
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
