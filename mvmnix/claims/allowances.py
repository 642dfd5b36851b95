"""Finds comments that allow a finding: `claims: allow RULE[, RULE]: WHY`, beside it or above its paragraph; pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mvmnix.claims.passages import Passage, blank_fences, is_markdown

#: The reason is part of it: without one nothing is allowed.
_ALLOW: Final = re.compile(r"(?:<!--|#|//|--)\s*claims: allow (?P<rules>[a-z]+(?:-[a-z]+)*(?:, [a-z-]+)*): \S.{2,}")
_SPAN: Final = re.compile(r"`[^`\n]*`")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Names of rules that are allowed on these lines; `line` is the comment's own."""

    line: int
    rules: tuple[str, ...]
    lines: range


def find_allowances(path: str, text: str, passages: Iterable[Passage]) -> Iterator[Allowance]:
    """Yield the allowances of a file: each for the passages on its line and on the line after it."""
    if is_markdown(path):  # none that a document shows
        text = _SPAN.sub("", blank_fences(text))
    spans = [passage.lines for passage in passages]
    for number, line in enumerate(text.splitlines(), 1):
        if (found := _ALLOW.search(line)) is not None:
            near = [span for span in spans if number in span or number + 1 in span]
            first = min([number, *(span.start for span in near)])
            last = max([number + 1, *(span.stop for span in near)])
            yield Allowance(number, tuple(found["rules"].split(", ")), range(first, last))
