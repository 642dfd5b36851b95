"""Rows of tables about numbered steps."""

from collections.abc import Callable
from dataclasses import dataclass

from mvmnix.errors import ReasonCode


@dataclass(frozen=True)
class Row[W]:
    """What is changed, with everything around it made consistent again; which step has to notice; by which reason."""

    step: int
    code: ReasonCode
    change: Callable[[W], object]
    name: str
