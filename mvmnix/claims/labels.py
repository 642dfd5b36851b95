"""Finds features that aren't finished and are named without saying so; pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from mvmnix.claims.passages import Passage
from mvmnix.claims.rules import Match, Rule
from mvmnix.claims.settings import Feature, Status

#: With a capital, or set apart: `**preview**`, `(planned)`, `in preview`.
_LABEL: Final = re.compile(r"\b(Planned|Preview)\b|(?:\*\*|\(|in )(planned|preview)\b")


def find_status(passage: Passage) -> Status | None:
    """Return the label of a passage, else of the headings above it, else of its section's first paragraph."""
    places = (passage.text, passage.section.heading, passage.section.lead)
    found = next(filter(None, map(_LABEL.search, places)), None)
    return None if found is None else Status((found[1] or found[2]).lower())


def check_labels(passage: Passage, features: Iterable[Feature]) -> Iterator[Match]:
    """Yield the first name of each unfinished feature in a passage without a label."""
    if passage.is_code:
        return
    for feature in features:
        found = feature.pattern.search(passage.text)
        if found is not None and find_status(passage) is None:
            hint = f"say that it is {feature.status.capitalize()}"
            yield Match(Rule.UNLABELLED_FEATURE, found.start(), found.group(), hint)
