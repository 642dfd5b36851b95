"""Tells Python's logging what mvm does, where a process listens: no secret, no argument of a child, no byte of theirs.

The loggers are those below `mvmnix`. A process that never imported `logging` has no listener, and isn't made to import
it: most commands run in less time than that takes.
"""

import sys
from collections.abc import Callable
from typing import Final, override

#: The levels, by the names that messages have for them, from the lowest.
LEVELS: Final = ("debug", "info")


def info(area: str, text: str, *values: object) -> None:
    """Log a step of an operation to the logger `mvmnix.AREA`; `text` is a format as of `logging.Logger.info`."""
    _log("INFO", area, text, values)


def debug(area: str, text: str, *values: object) -> None:
    """The same for what a step is made of."""
    _log("DEBUG", area, text, values)


def relay(level: str, area: str, text: str) -> None:
    """Log what another process of mvm's logged, at its level and to its logger."""
    if level in LEVELS:
        _log(level.upper(), area, "%s", (text,))


def wanted() -> str:
    """Return the lowest level of LEVELS that this process listens to; "" where it listens to neither."""
    if (logging := sys.modules.get("logging")) is None:
        return ""
    logger = logging.getLogger("mvmnix")
    return next((level for level in LEVELS if logger.isEnabledFor(getattr(logging, level.upper()))), "")


def hand_on(level: str, take: Callable[[str, str, str], object]) -> None:
    """Have this process log from a level of LEVELS on, and hand each line to `take`: level, area and text."""
    import logging  # noqa: PLC0415 - see above

    class Taker(logging.Handler):
        """Gives lines away, and loses those that can't be."""

        @override
        def emit(self, record: logging.LogRecord) -> None:
            take(record.levelname.lower(), record.name.partition(".")[2], record.getMessage())

    logger = logging.getLogger("mvmnix")
    logger.addHandler(Taker())
    logger.setLevel(level.upper())
    logger.propagate = False


def _log(level: str, area: str, text: str, values: tuple[object, ...]) -> None:
    if (logging := sys.modules.get("logging")) is not None:
        logging.getLogger(f"mvmnix.{area}").log(getattr(logging, level), text, *values)
