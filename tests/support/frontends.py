"""A frontend that remembers what it was told."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakes import Progress


@dataclass
class Shown(Progress):
    """Progress that remembers its notices too."""

    notices: list[str] = field(default_factory=list)
    heard: Callable[[], object] = lambda: None

    def notice(self, text: str) -> None:
        self.notices.append(text)
        self.heard()

    def single_step(self, name: str) -> None: ...

    def total(self, files: int) -> None: ...

    def advance(self, name: str, size: int) -> None: ...

    def received(self, url: str, size: int, total: int | None) -> None: ...
