"""Writes docs/refusals.md from the texts about reason codes: `python -m tests.unit.refusals_page`."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from mvmnix.refusals.catalogue import Explanation, explanations
from tests.repository import ROOT

PAGE = ROOT / "docs/refusals.md"
HEAD: Final = """\
# Refusals

Exit code 126 (`mvm verify`: 1). Each refusal names all reasons that were found, and for each: what
was looked at, a code, why, and what to do next. The codes are stable names for machines;
`mvm verify --json` and the audit log carry them. `mvm explain CODE` says more about each: why it is
refused, and an example. [verification.md](verification.md) says which numbered step gives which.

| code | refused because | do |
| --- | --- | --- |
"""
FOOT: Final = """
Written by `tests/unit/refusals_page.py` from `mvmnix/refusals`. Witnesses:
`tests/unit/cli/test_remedies.py` makes each refusal and removes its cause as the last column says;
then the same command succeeds, or another one where the remedy is another plan, image, backend or
reference; `tests/unit/cli/commands/test_explain.py` holds these texts against `mvmnix/errors.py`;
`tests/unit/test_house.py` looks for a test of each code.
"""


def page() -> str:
    """The page as it has to be."""
    return f"{HEAD}{''.join(_rows())}{FOOT}"


def _rows() -> Iterator[str]:
    for group, found in groupby(explanations().values(), lambda each: each.group):
        yield f"| **{group}** | | |\n"
        yield from map(_row, found)


def _row(found: Explanation) -> str:
    cells = (" ".join(text.split()).replace("|", "\\|") for text in (found.meaning, found.remedy))
    return f"| `{found.code}` | {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
