"""The drivers of a conversation: one table of steps that each runs alike, and no descriptor or task left of any."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from mvmnix.launch.control.drivers import Steps, Wait, Work, run, run_async, run_on_loop, together
from mvmnix.system.loop import Loop
from tests.descriptors import nothing_left_open
from tests.patience import EVENT_PATIENCE, SHORT, until

type Driver = Callable[[Steps[Any]], Any]


def on_loop(steps: Steps[Any]) -> Any:
    """Run steps on a loop of mvm's."""
    loop = Loop()
    try:
        return run_on_loop(steps, loop)
    finally:
        loop.close()


def on_asyncio(steps: Steps[Any]) -> Any:
    """Run steps on a loop of asyncio's."""
    return asyncio.run(run_async(steps))


@pytest.fixture(params=[run, on_loop, on_asyncio], ids=["blocking", "loop", "asyncio"])
def drive(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Each driver in its turn."""
    with nothing_left_open():
        yield request.param


def test_the_result_is_that_of_the_steps(drive: Driver) -> None:
    def steps() -> Steps[str]:
        first = yield Work(lambda: 6)
        second = yield Work(lambda: 7)
        return f"{first * second}"

    assert drive(steps()) == "42"


def test_steps_that_wait_for_nothing(drive: Driver) -> None:
    def steps() -> Steps[int]:
        yield from ()
        return 1

    assert drive(steps()) == 1


def test_what_work_raises_is_the_steps_to_handle(drive: Driver) -> None:
    def fail() -> None:
        raise KeyError("x")

    def steps() -> Steps[str]:
        try:
            yield Work(fail)
        except KeyError as error:
            return repr(error)
        return ""

    def careless() -> Steps[None]:
        yield Work(fail)

    assert drive(steps()) == "KeyError('x')"
    with pytest.raises(KeyError):
        drive(careless())


def test_a_wait_names_what_is_ready(drive: Driver) -> None:
    first, second = socket.socketpair()
    idle, other = socket.socketpair()

    def steps() -> Steps[list[frozenset[int]]]:
        found = [(yield Wait(read=(idle.fileno(),), write=(first.fileno(),)))]
        second.send(b"x")
        found.append((yield Wait(read=(first.fileno(), idle.fileno()))))
        found.append((yield Wait(read=(first.fileno(),), write=(first.fileno(),))))
        return found

    with first, second, idle, other:
        assert drive(steps()) == [frozenset({first.fileno()})] * 3


def test_the_end_of_a_connection_is_something_to_read(drive: Driver) -> None:
    first, second = socket.socketpair()

    def steps() -> Steps[frozenset[int]]:
        found: frozenset[int] = yield Wait(read=(first.fileno(),))
        return found

    with first:
        second.close()
        assert drive(steps()) == {first.fileno()}


@pytest.mark.parametrize("seconds", [0, -1, SHORT])
def test_a_wait_ends_with_its_time(drive: Driver, seconds: float) -> None:
    first, second = socket.socketpair()

    def steps() -> Steps[frozenset[int]]:
        found: frozenset[int] = yield Wait(read=(first.fileno(),), seconds=seconds)
        return found

    with first, second:
        assert drive(steps()) == frozenset()


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_wait_of_no_time_looks(drive: Driver, seconds: float) -> None:
    ours, theirs = socket.socketpair()

    def steps() -> Steps[list[frozenset[int]]]:
        before = yield Wait(read=(ours.fileno(),), seconds=seconds)
        theirs.send(b"x")
        return [before, (yield Wait(read=(ours.fileno(),), seconds=seconds))]

    with ours, theirs:
        assert drive(steps()) == [frozenset(), frozenset({ours.fileno()})]


def test_a_wait_for_nothing_but_time(drive: Driver) -> None:
    def steps() -> Steps[frozenset[int]]:
        found: frozenset[int] = yield Wait(seconds=SHORT)
        return found

    assert drive(steps()) == frozenset()


def test_steps_are_closed_where_they_fail(drive: Driver) -> None:
    closed = []

    def steps() -> Steps[None]:
        try:
            yield Wait(read=(-1,))
        finally:
            closed.append("x")

    with pytest.raises((ValueError, OSError)):
        drive(steps())
    assert closed == ["x"]


def test_descriptors_of_a_high_number(drive: Driver) -> None:
    """select(2) knows none above 1,023."""
    first, second = socket.socketpair()
    many = [os.dup(first.fileno()) for _ in range(1100)]

    def steps() -> Steps[frozenset[int]]:
        found: frozenset[int] = yield Wait(read=(many[-1],))
        return found

    try:
        with first, second:
            second.send(b"x")
            assert drive(steps()) == {many[-1]}
    finally:
        for fd in many:
            os.close(fd)


def test_what_interrupts_a_wait_closes_the_conversation() -> None:
    closed = []

    def steps() -> Steps[None]:
        try:
            yield Work(interrupt)
        finally:
            closed.append("x")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(steps())
    assert closed == ["x"]


def test_asyncio_is_not_held_up_by_work() -> None:
    begun, end = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        end.wait(EVENT_PATIENCE)
        return "done"

    def steps() -> Steps[str]:
        found: str = yield Work(work)
        return found

    async def main() -> str:
        task = asyncio.create_task(run_async(steps()))
        await asyncio.to_thread(begun.wait, EVENT_PATIENCE)
        end.set()
        return await task

    assert asyncio.run(main()) == "done"


def test_cancelling_closes_the_conversation() -> None:
    first, second = socket.socketpair()
    closed = []

    def steps() -> Steps[None]:
        try:
            yield Wait(read=(first.fileno(),))
        finally:
            closed.append("x")

    async def main() -> bool:
        task = asyncio.create_task(run_async(steps()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.get_running_loop().remove_reader(first.fileno())

    with first, second:
        assert asyncio.run(main()) is False, "the loop still watches it"
    assert closed == ["x"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_comes_too_late_is_discarded(fails: bool) -> None:
    """A descriptor that a worker opened for a conversation that was cancelled is nobody's."""
    begun, end = threading.Event(), threading.Event()
    discarded: list[int] = []

    def work() -> int:
        begun.set()
        end.wait(EVENT_PATIENCE)
        if fails:
            raise OSError
        return os.open("/", os.O_PATH)

    def discard(fd: int) -> None:
        os.close(fd)
        discarded.append(fd)

    def steps() -> Steps[None]:
        yield Work(work, discard)

    async def main() -> None:
        task = asyncio.create_task(run_async(steps()))
        await asyncio.to_thread(begun.wait, EVENT_PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end.set()

    with nothing_left_open():
        asyncio.run(main())
        until(lambda: fails or discarded)
    assert bool(discarded) is not fails


def test_work_that_no_thread_was_free_for_is_not_begun_once_its_task_is_cancelled() -> None:
    """A build that a cancelled task asked for would go on for minutes, for no caller."""
    done: list[str] = []
    free = threading.Event()

    def work(name: str) -> None:
        free.wait(EVENT_PATIENCE)
        done.append(name)

    def steps(name: str) -> Steps[None]:
        yield Work(partial(work, name))

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        first, second = (asyncio.create_task(run_async(steps(name))) for name in ("first", "second"))
        await asyncio.sleep(SHORT)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        free.set()
        await first
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(main())
    assert done == ["first"]


def test_a_result_that_is_taken_is_not_discarded(drive: Driver) -> None:
    discarded: list[int] = []

    def steps() -> Steps[int]:
        found: int = yield Work(lambda: 1, discarded.append)
        return found

    assert drive(steps()) == 1
    assert discarded == []


def test_a_loop_serves_others_while_steps_wait() -> None:
    """As a builder's services are, which its guest calls while a command of it runs."""
    loop = Loop()
    first, second = socket.socketpair()

    def steps() -> Steps[frozenset[int]]:
        found: frozenset[int] = yield Wait(read=(first.fileno(),))
        return found

    with first, second:
        loop.after(0, lambda: second.sendall(b"x"))
        assert run_on_loop(steps(), loop) == {first.fileno()}
    loop.close()


def test_conversations_beside_each_other_wait_for_one_another(drive: Driver) -> None:
    """The first waits for what the last says: one after another they would never end."""
    first, second = socket.socketpair()

    def waits() -> Steps[bytes]:
        yield Wait(read=(first.fileno(),))
        return first.recv(1)

    def works(number: int) -> Steps[bytes]:
        yield Wait(seconds=SHORT)
        said: bytes = yield Work(lambda: b"%d" % number)
        return said

    def says() -> Steps[bytes]:
        yield Wait(write=(second.fileno(),))
        second.send(b"x")
        return b""

    with first, second:
        assert drive(together([waits(), works(1), works(2), says()], 2)) == (b"x", b"1", b"2", b"")
        assert drive(together([], 2)) == ()


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_there_are_so_many_at_once(drive: Driver, most: int) -> None:
    now, seen = set[int](), list[int]()

    def steps(number: int) -> Steps[int]:
        now.add(number)
        seen.append(len(now))
        yield Wait(seconds=0.0)
        now.remove(number)
        return number

    assert drive(together([steps(number) for number in range(5)], most)) == (0, 1, 2, 3, 4)
    assert max(seen) == min(most, 5)


def test_what_work_raises_is_handled_by_whose_it_is(drive: Driver) -> None:
    def fails() -> int:
        raise OSError("none")

    def steps(call: Callable[[], int]) -> Steps[int]:
        try:
            found: int = yield Work(call)
        except OSError:
            return -1
        return found

    assert drive(together([steps(fails), steps(lambda: 2)], 2)) == (-1, 2)


def test_one_that_fails_ends_all(drive: Driver) -> None:
    closed = list[str]()

    def waits(name: str) -> Steps[None]:
        try:
            yield Wait(seconds=EVENT_PATIENCE)
        finally:
            closed.append(name)

    def fails() -> Steps[None]:
        yield Wait(seconds=0.0)
        raise ValueError("it fails")

    with pytest.raises(ValueError, match="it fails"):
        drive(together([waits("first"), fails(), waits("never begun")], 2))
    assert closed == ["first"]
