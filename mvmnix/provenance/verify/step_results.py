"""Takes the numbered steps of a verification in order, and keeps what each of them found; pure.

A step is a function `step_NUMBER_NAME`, whose number is the one in its verifier's list.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from mvmnix.errors import Reason, RefusedError, StepResult, bounded

_NAME: Final = re.compile(r"step_(\d+)_(\w+)")


class NotTaken(Enum):
    """What a step yields for want of something that another step has refused already."""

    NOT_TAKEN = auto()


NOT_TAKEN: Final = NotTaken.NOT_TAKEN
#: What a step yields.
type Findings = Iterator[Reason | NotTaken]


class Steps:
    """The steps that one verifier has taken so far; `before` are those of another one, which came first."""

    def __init__(self, verifier: str, before: Iterable[StepResult] = ()) -> None:
        self._verifier = verifier
        self._results = [*before]

    @property
    def results(self) -> tuple[StepResult, ...]:
        """What each found, in the order in which they were taken."""
        return tuple(self._results)

    def take[**P](self, step: Callable[P, Findings], *args: P.args, **kwargs: P.kwargs) -> None:
        """Take a step after which the next one is taken, whatever this one found."""
        found = tuple(step(*args, **kwargs))
        reasons = tuple(it for it in found if isinstance(it, Reason))
        self._add(step, reasons, taken=bool(reasons) or NOT_TAKEN not in found)

    def take_each[**P](self, steps: Iterable[Callable[P, Findings]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Take several of them, all of them with the same."""
        for step in steps:
            self.take(step, *args, **kwargs)

    def need[**P, T](self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Take a step without which there is no next one. Raises RefusedError."""
        try:
            found = step(*args, **kwargs)
        except RefusedError as error:
            self._add(step, error.reasons, error.steps)
            raise self._refusal() from error
        self._add(step, ())
        return found

    def consists_of(self, steps: tuple[StepResult, ...]) -> None:
        """Say of the last step which steps of another list it consisted of."""
        self._results[-1] = replace(self._results[-1], within=steps)

    def _add(
        self,
        step: Callable[..., object],
        reasons: tuple[Reason, ...],
        within: tuple[StepResult, ...] = (),
        *,
        taken: bool = True,
    ) -> None:
        found = _NAME.fullmatch(step.__name__)
        if found is None:
            raise ValueError(f"{step.__name__} is not a numbered step")
        kept = bounded(reasons) if reasons else ()
        name = found[2].replace("_", " ")
        self._results.append(StepResult(self._verifier, int(found[1]), name, kept, within, taken))

    def require(self) -> None:
        """Raise RefusedError with every reason that was found, if there is one."""
        if any(result.reasons for result in self._results):
            raise self._refusal()

    def _refusal(self) -> RefusedError:
        return RefusedError(*(it for result in self._results for it in result.reasons), steps=self.results)
