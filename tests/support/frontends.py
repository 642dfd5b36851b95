"""Frontends that remember what they were told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import override

from mvmnix.api.frontend import SilentProgress
from tests.fakes import Progress


@dataclass
class Shown(Progress, SilentProgress):
    """Progress that remembers its notices too."""

    notices: list[str] = field(default_factory=list)
    heard: Callable[[], object] = lambda: None

    @override
    def notice(self, text: str) -> None:
        self.notices.append(text)
        self.heard()


@dataclass
class Recorder:
    """How many files there are, and how large each was that arrived."""

    files: int = -1
    arrived: dict[str, int] = field(default_factory=dict)

    def total(self, files: int) -> None:
        self.files = files

    def advance(self, name: str, size: int) -> None:
        self.arrived[name] = size
