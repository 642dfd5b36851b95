"""A new session keyring: what the kernel says no to, and what it says no to for a moment only."""

import errno

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.system import session_keyring


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kernel's answers, one for each try; the last one for all that follow."""
    made = [0]
    monkeypatch.setattr(session_keyring, "_join", lambda _: made.pop(0) if len(made) > 1 else made[0])
    monkeypatch.setattr(session_keyring, "_PAUSE", 0)
    return made


@pytest.mark.parametrize("before", [[], [errno.EDQUOT] * 3])
@pytest.mark.parametrize("last", [0, errno.ENOSYS, errno.EPERM])
def test_quota_that_threads_before_it_still_hold_is_waited_for(
    answers: list[int], before: list[int], last: int
) -> None:
    answers[:] = [*before, last]
    session_keyring.renew()
    assert answers == [last]


@pytest.mark.parametrize(("error", "words"), [(errno.EDQUOT, "quota exceeded"), (errno.ENOMEM, "allocate memory")])
def test_without_a_keyring_nothing_is_started(answers: list[int], error: int, words: str) -> None:
    answers[:] = [error]
    with pytest.raises(MvmnixError, match=words):
        session_keyring.renew()
