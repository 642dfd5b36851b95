"""Runs the steps of a conversation (drivers.py) on the running asyncio loop, of whatever kind that is.

`Work` that may take long runs in the loop's default executor, whose threads are the loop's. Descriptors are watched by
`add_reader` and `add_writer` while a step waits for them, and no longer.
"""

import asyncio
import threading
from functools import partial

from mvmnix.launch.control.drivers import Steps, Wait, Work


async def run_async[T](steps: Steps[T]) -> T:
    """Run the steps on the running asyncio loop, and return their result. Cancelling closes the conversation."""
    try:
        request = next(steps)
        while True:
            try:
                answer = await (_ready(request) if isinstance(request, Wait) else _in_thread(request))
            except Exception as error:  # noqa: BLE001 - it is the conversation's to handle
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def _in_thread(work: Work) -> object:
    """Do it in a thread; where the task is cancelled meanwhile, what comes of it is closed there."""
    worker = _Worker(work)
    try:
        return await asyncio.to_thread(worker.run)
    except asyncio.CancelledError:
        worker.abandon()
        raise


class _Worker:
    """A piece of work, whose result has no owner once it is abandoned."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._result: object = None
        self._is_abandoned = False

    def run(self) -> object:
        """Do it."""
        result = self._work.call()
        with self._lock:
            self._result = result
            if self._is_abandoned:
                self._close()
        return result

    def abandon(self) -> None:
        """Have the result closed, now or once it is there."""
        with self._lock:
            self._is_abandoned = True
            self._close()

    def _close(self) -> None:
        if (close := getattr(self._result, "close", None)) is not None:
            close()


async def _ready(wait: Wait) -> frozenset[int]:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()
    ready: set[int] = set()

    def note(fd: int) -> None:
        ready.add(fd)
        if not found.done():
            found.set_result(None)

    try:
        for fd in wait.read:
            loop.add_reader(fd, partial(note, fd))
        for fd in wait.write:
            loop.add_writer(fd, partial(note, fd))
        async with asyncio.timeout(None if wait.seconds is None else max(0.0, wait.seconds)):
            await found
    except TimeoutError:
        return frozenset()
    finally:
        for fd in wait.read:
            loop.remove_reader(fd)
        for fd in wait.write:
            loop.remove_writer(fd)
    return frozenset(ready)
