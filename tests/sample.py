"""Takes a sample of a table whose rows cost minutes: other rows each day in `make test`, all of them in `make soak`."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

#: The variable that chooses the rows; a run names it in its header, so that the same rows can be run again.
VARIABLE: Final = "MVMNIX_TEST_SAMPLE"
#: `make soak` sets it.
_ALL: Final = "MVMNIX_SOAK_STARTS"


def choose_sample() -> str:
    """Choose by the date where nobody did; processes that this one starts inherit the choice. Returns it."""
    return os.environ.setdefault(VARIABLE, str(datetime.now(tz=UTC).toordinal()))


def takes_everything() -> bool:
    """Whether this run is `make soak`."""
    return _ALL in os.environ


def sample[Row](rows: Sequence[Row], count: int) -> list[Row]:
    """Return `count` of these rows, in their order: all of them within len(rows) / count days."""
    if takes_everything() or count >= len(rows):
        return list(rows)
    first = int(choose_sample()) * count % len(rows)
    chosen = {(first + step) % len(rows) for step in range(count)}
    return [row for number, row in enumerate(rows) if number in chosen]
