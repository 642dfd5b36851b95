"""How long a download waits before it is tried again."""

import pytest

from mvmnix.builder.fetch.resumable import LONGEST, pause


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_the_pause_grows_and_stays_bounded(jitter: float) -> None:
    pauses = [pause(attempt, None, jitter=jitter) or 0.0 for attempt in range(1, 40)]
    assert pauses == sorted(pauses)
    assert 0 < pauses[0] < 1
    assert pauses[-1] <= LONGEST


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("7", 7.0),
        ("0", 0.25),
        ("60", 60.0),
        ("61", None),
        ("99999999999999999999", None),
        ("Sat, 31 Jan 2026 12:00:09 GMT", 0.25),
        ("-5", 0.25),
        ("soon", 0.25),
        ("", 0.25),
        ("\u0667", 0.25),
    ],
)
def test_what_a_server_asks_for_is_heeded_within_bounds(said: str, wait: float | None) -> None:
    assert pause(1, said, jitter=0.0) == wait
