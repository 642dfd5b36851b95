"""Runs the steps of a conversation, which wait by asking for it: blocking, or on a loop of mvm's or asyncio's.

A conversation is a generator. It yields a `Wait` or a `Work`, and is sent what came of that: so the same steps serve
all kinds of callers, and no driver starts a loop, a thread or a signal handler of its own. `Work` that may take long
runs in the default executor of an asyncio loop, whose threads are that loop's.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from mvmnix.system.loop import Loop


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until one of these descriptors is ready, at most so many seconds (None: as long as it takes).

    Answered by the set of those that are ready, an empty one where the time is up.
    """

    read: tuple[int, ...] = ()
    write: tuple[int, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Call this, which may block; answered by its result, or by its exception.

    `discard` is called with a result that comes too late: a conversation that was cancelled meanwhile takes none.
    """

    call: Callable[[], Any]
    discard: Callable[[Any], object] = lambda _: None


#: The steps of a conversation whose result is T.
type Steps[T] = Generator[Wait | Work, Any, T]


@dataclass(frozen=True, slots=True)
class _Done[T]:
    result: T


def together[T](conversations: Sequence[Steps[T]], most: int) -> Steps[tuple[T, ...]]:
    """Run conversations beside each other, at most so many at once, and return their results in their order.

    One that raises ends them all: the others are closed.
    """
    results, waits = dict[int, T](), dict[int, tuple[Wait, float]]()
    begun = min(most, len(conversations))
    answers: dict[int, Any] = dict.fromkeys(range(begun))
    try:
        while answers or waits:
            for number, answer in answers.items():
                request = yield from _go_on(conversations[number], answer)
                if isinstance(request, Wait):
                    waits[number] = request, inf if request.seconds is None else time.monotonic() + request.seconds
                else:
                    results[number] = request.result
            following = min(len(results) + most, len(conversations))
            answers, begun = dict.fromkeys(range(begun, following)), following
            if not answers and waits:
                answers = _answered(waits, (yield _earliest(waits)))
    finally:
        for each in conversations:
            each.close()
    return tuple(results[number] for number in range(len(conversations)))


def _go_on[T](steps: Steps[T], answer: object) -> Generator[Work, Any, Wait | _Done[T]]:
    """Answer a conversation, do its work, and return for what it waits then, or its result."""
    step = partial(steps.send, answer)
    while True:
        try:
            request = step()
        except StopIteration as end:
            return _Done(end.value)
        if isinstance(request, Wait):
            return request
        try:
            step = partial(steps.send, (yield request))
        except Exception as error:  # noqa: BLE001 - it is the conversation's to handle
            step = partial(steps.throw, error)


def _earliest(waits: Mapping[int, tuple[Wait, float]]) -> Wait:
    """For all of it, until the first one's time is up."""
    until = min(until for _, until in waits.values())
    read = tuple({fd for wait, _ in waits.values() for fd in wait.read})
    write = tuple({fd for wait, _ in waits.values() for fd in wait.write})
    return Wait(read, write, None if until == inf else max(0.0, until - time.monotonic()))


def _answered(waits: dict[int, tuple[Wait, float]], ready: frozenset[int]) -> dict[int, frozenset[int]]:
    """Take out those for whom something is ready, or whose time is up, with what is."""
    now = time.monotonic()
    found = {number: ready & {*wait.read, *wait.write} for number, (wait, _) in waits.items()}
    found = {number: some for number, some in found.items() if some or waits[number][1] <= now}
    for number in found:
        del waits[number]
    return found


def run[T](steps: Steps[T]) -> T:
    """Run the steps in this thread, and return their result. What interrupts a wait closes the conversation."""
    return _run(steps, _poll)


def run_on_loop[T](steps: Steps[T], loop: "Loop") -> T:
    """The same, and turn a loop while they wait, so that what else it watches is served meanwhile."""
    return _run(steps, partial(_turn, loop))


def _run[T](steps: Steps[T], wait: Callable[[Wait], frozenset[int]]) -> T:
    try:
        request = next(steps)
        while True:
            try:
                answer = wait(request) if isinstance(request, Wait) else request.call()
            except Exception as error:  # noqa: BLE001 - it is the conversation's to handle
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def run_async[T](steps: Steps[T]) -> T:
    """Run the steps on the running asyncio loop, and return their result. Cancelling closes the conversation."""
    try:
        request = next(steps)
        while True:
            try:
                answer = await (_ready(request) if isinstance(request, Wait) else _worked(request))
            except Exception as error:  # noqa: BLE001 - it is the conversation's to handle
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def _worked(work: Work) -> object:
    import asyncio  # noqa: PLC0415 - only callers with a loop of asyncio's have it

    is_given_up = threading.Event()

    def call() -> object:
        if is_given_up.is_set():
            raise RuntimeError("its task was cancelled before a thread was free for it")
        return work.call()

    result = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        is_given_up.set()
        result.add_done_callback(partial(_discard, work))
        raise


def _discard(work: Work, result: "asyncio.Future[Any]") -> None:
    if not result.cancelled() and result.exception() is None:
        work.discard(result.result())


def _poll(wait: Wait) -> frozenset[int]:
    poll = select.poll()  # select(2) knows no descriptor above 1,023
    for fd in {*wait.read, *wait.write}:
        poll.register(fd, (select.POLLIN if fd in wait.read else 0) | (select.POLLOUT if fd in wait.write else 0))
    milliseconds = None if wait.seconds is None else max(0.0, wait.seconds * 1000)
    return frozenset(fd for fd, _ in poll.poll(milliseconds))


def _turn(loop: "Loop", wait: Wait) -> frozenset[int]:
    ready: set[int] = set()
    late = None if wait.seconds is None else loop.after(max(0.0, wait.seconds), lambda: None)
    try:
        for fd in {*wait.read, *wait.write}:
            note = partial(ready.add, fd)
            loop.watch(fd, read=note if fd in wait.read else None, write=note if fd in wait.write else None)
        while not ready and (late is None or late.pending):
            loop.turn()
    finally:
        for fd in {*wait.read, *wait.write}:
            loop.forget(fd)
        if late is not None:
            late.cancel()
    return frozenset(ready)


async def _ready(wait: Wait) -> frozenset[int]:
    import asyncio  # noqa: PLC0415 - as above

    if wait.seconds is not None and wait.seconds <= 0:  # a time-out of asyncio's is raised before it looks
        await asyncio.sleep(0)
        return _poll(wait)
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()
    ready: set[int] = set()

    def note(fd: int) -> None:
        ready.add(fd)
        if not found.done():
            found.set_result(None)

    copies: dict[int, int] = {}  # a loop has one callback for a number, and doesn't learn that another task closed it
    try:
        for fd in {*wait.read, *wait.write}:
            copies[fd] = os.dup(fd)
        for fd in wait.read:
            loop.add_reader(copies[fd], partial(note, fd))
        for fd in wait.write:
            loop.add_writer(copies[fd], partial(note, fd))
        async with asyncio.timeout(wait.seconds):
            await found
    except TimeoutError:
        return frozenset()
    finally:
        for copy in copies.values():
            loop.remove_reader(copy)
            loop.remove_writer(copy)
            os.close(copy)
    return frozenset(ready)
