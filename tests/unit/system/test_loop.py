"""The loop is rung from other threads, and by nobody else."""

import threading

import pytest

from mvmnix.system.loop import Loop
from tests.patience import EVENT_PATIENCE


@pytest.fixture
def loop() -> Loop:
    made = Loop()
    made.listen()
    return made


def test_what_another_thread_posts_runs_here(loop: Loop) -> None:
    ran: list[int] = []
    thread = threading.Thread(target=lambda: loop.post(lambda: ran.append(threading.get_ident())))
    thread.start()
    loop.turn(EVENT_PATIENCE)
    thread.join()
    assert ran == [threading.get_ident()]
    loop.close()


def test_all_that_was_posted_runs_in_one_turn_in_its_order(loop: Loop) -> None:
    ran: list[int] = []
    for number in range(3):
        loop.post(lambda number=number: ran.append(number))  # type: ignore[misc]
    loop.turn(EVENT_PATIENCE)
    assert ran == [0, 1, 2]
    loop.close()


def test_a_loop_that_nobody_turns_any_more_runs_nothing(loop: Loop) -> None:
    loop.close()
    loop.post(lambda: pytest.fail("it ran"))


def test_a_timer_may_be_as_far_away_as_a_plan_allows(loop: Loop) -> None:
    """epoll(7) waits 2^31 milliseconds at most, which are 24 days."""
    timer, ran = loop.after(2**31 + 10, lambda: pytest.fail("it is due in 68 years")), list[int]()
    loop.post(lambda: ran.append(1))
    loop.turn()
    loop.turn(0)
    assert timer.pending
    assert ran == [1]
    loop.close()


def test_what_a_closed_loop_watched_may_be_forgotten(loop: Loop) -> None:
    loop.close()
    loop.forget(0)
