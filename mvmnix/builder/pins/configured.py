"""Says from where a tool of this machine is configured to download: apt, pip or npm."""

import os
from collections.abc import Callable, Mapping
from typing import Final

from mvmnix.builder.pins import npm_settings, pip_settings
from mvmnix.builder.pins.debian import Apt


def _apt() -> tuple[str, ...]:
    return tuple(mirror.base for mirror in Apt().mirrors())


#: What each is asked by.
_TOOLS: Final[Mapping[str, Callable[[], tuple[str, ...]]]] = {
    "apt": _apt,
    "npm": lambda: npm_settings.read(os.environ),
    "pip": lambda: pip_settings.read().urls,
}
#: The tools that can be asked.
CONFIGURED_TOOLS: Final = tuple(_TOOLS)


def configured_urls(tool: str) -> tuple[str, ...]:
    """The URLs of a tool's sources, which may hold credentials; not all of them are of http or https.

    Raises MvmnixError where the tool is missing or its configuration is not supported; KeyError for another tool.
    """
    return _TOOLS[tool]()
