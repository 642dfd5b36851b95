"""Runs the steps of an operation in the thread that calls it; what they raise becomes the SDK's."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

from mvmnix.errors import MvmnixError
from mvmnix.launch.control import drivers
from mvmnix.launch.control.drivers import Steps, Work
from mvmnix.sdk.errors import translate


def run[T](steps: Steps[T]) -> T:
    """Run the steps in this thread; what they raise is the SDK's."""
    return drivers.run(translate_errors(steps))


def translate_errors[T](steps: Steps[T]) -> Steps[T]:
    """Run the steps; what they raise of mvm's becomes the SDK's (sdk/errors.py)."""
    try:
        return (yield from steps)
    except MvmnixError as error:
        made = translate(error)
        if made is error:
            raise
        raise made from error


def work[T](call: Callable[[], T]) -> Steps[T]:
    """Do something that may block, as one step."""
    result: T = yield Work(call)
    return result


class WorkerStack:
    """What is opened in a worker's thread, and closed by whichever comes last, the work or its caller.

    So a program that goes away meanwhile (a task that is cancelled) leaves nothing open: the work can't be interrupted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._is_working = self._is_left = False

    def run[T](self, work: Callable[[ExitStack], T]) -> T:
        """Do the work, which opens things on the stack."""
        with self._lock:
            self._is_working = True
        try:
            return work(self._stack)
        finally:
            with self._lock:
                self._is_working = False
                if self._is_left:
                    self._stack.close()

    def close(self) -> None:
        """Close what was opened, now or once the work has ended."""
        with self._lock:
            self._is_left = True
            if not self._is_working:
                self._stack.close()
