"""What a plan's author calls a machine, for users who list machines: names and values that nothing else depends on."""

import re
from collections.abc import Mapping
from typing import Final

from mvmnix.formats.strict import Record
from mvmnix.words import Words, check_words

#: Values of labels by their names, as a plan has them.
type Labels = Mapping[str, str]

NO_LABELS: Final[Labels] = {}
MOST_LABELS: Final = 32
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
_VALUE: Final = re.compile(r"[^\x00-\x1f\x7f]{0,128}")


def check(labels: Labels) -> None:
    """Raises ValueError, with all problems, for labels that no plan may have."""
    problems = [f"more than {MOST_LABELS} labels"] if len(labels) > MOST_LABELS else []
    for name, value in labels.items():
        if not _NAME.fullmatch(name):
            problems.append(f"{name[:80]!r} is not a label's name: 1 to 63 of a-z, 0-9 and ._/-, no sign at either end")
        elif not _VALUE.fullmatch(value):
            problems.append(f"the label {name} has more than 128 characters, or control characters among them")
    if problems:
        raise ValueError("; ".join(problems))


def parse_labels(texts: Words) -> Labels:
    """Labels as a user types them. Raises ValueError.

    >>> parse_labels(["tier=web", "note=a=b", "plain"])
    {'tier': 'web', 'note': 'a=b', 'plain': ''}
    """
    labels = dict[str, str]()
    for text in check_words(texts):
        name, _, value = text.partition("=")
        if name in labels:
            raise ValueError(f"the label {name} is listed twice")
        labels[name] = value
    check(labels)
    return labels


def read(record: Record) -> Labels:
    """The labels of a document, where they are left out when there are none. Raises ValueError."""
    if not record.names():
        raise ValueError("no labels: leave them out")
    labels = {name: record.text(name) for name in record.names()}
    check(labels)
    return labels
