"""Tells Python's logging what mvm does, where a process listens: no secret, no argument of a child, no byte of theirs.

The loggers are those below `mvmnix`. A process that never imported `logging` has no listener, and isn't made to import
it: most commands run in less time than that takes.
"""

import sys


def info(area: str, text: str, *values: object) -> None:
    """Log a step of an operation to the logger `mvmnix.AREA`; `text` is a format as of `logging.Logger.info`."""
    _log("INFO", area, text, values)


def debug(area: str, text: str, *values: object) -> None:
    """The same for what a step is made of."""
    _log("DEBUG", area, text, values)


def _log(level: str, area: str, text: str, values: tuple[object, ...]) -> None:
    if (logging := sys.modules.get("logging")) is not None:
        logging.getLogger(f"mvmnix.{area}").log(getattr(logging, level), text, *values)
