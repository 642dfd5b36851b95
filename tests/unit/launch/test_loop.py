"""The loop is rung from other threads, and by nobody else."""

import threading

import pytest

from mvmnix.launch.loop import Loop


@pytest.fixture
def loop() -> Loop:
    made = Loop()
    made.listen()
    return made


def test_what_another_thread_posts_runs_here(loop: Loop) -> None:
    ran: list[int] = []
    thread = threading.Thread(target=lambda: loop.post(lambda: ran.append(threading.get_ident())))
    thread.start()
    loop.turn(30)
    thread.join()
    assert ran == [threading.get_ident()]
    loop.close()


def test_all_that_was_posted_runs_in_one_turn_in_its_order(loop: Loop) -> None:
    ran: list[int] = []
    for number in range(3):
        loop.post(lambda number=number: ran.append(number))  # type: ignore[misc]
    loop.turn(30)
    assert ran == [0, 1, 2]
    loop.close()


def test_a_loop_that_nobody_turns_any_more_runs_nothing(loop: Loop) -> None:
    loop.close()
    loop.post(lambda: pytest.fail("it ran"))
