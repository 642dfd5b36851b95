"""Finds comments that allow a finding: `claims: allow RULE[, RULE]: WHY`, beside it or above its paragraph; pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from mvmnix.claims.markdown import blank_fences, blank_spans, split_lines
from mvmnix.claims.passages import Passage, is_markdown

_ALLOW: Final = re.compile(r"(?:<!--|#|//|--)\s*claims: allow\b\s*(?P<rules>[^:\n]{0,200})(?P<why>:\s*[^\s>-].{2,})?")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Names of rules that are allowed on these lines; `line` is the comment's own.

    Without a reason it allows nothing, and neither does a name that is no rule's.
    """

    line: int
    rules: tuple[str, ...]
    lines: range
    has_reason: bool


def find_allowances(path: str, text: str, passages: Iterable[Passage]) -> Iterator[Allowance]:
    """Yield the allowances of a file: each for the passages on its line and on the line after it."""
    if is_markdown(path):  # none that a document shows
        text = blank_spans(blank_fences(text))
    spans = [passage.lines for passage in passages]
    for number, line in enumerate(split_lines(text), 1):
        if (found := _ALLOW.search(line)) is not None:
            near = [span for span in spans if number in span or number + 1 in span]
            first = min([number, *(span.start for span in near)])
            last = max([number + 1, *(span.stop for span in near)])
            rules = tuple(found["rules"].removesuffix("-->").strip().split(", "))
            yield Allowance(number, rules, range(first, last), found["why"] is not None)
