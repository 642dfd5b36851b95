"""Runs what a test hands over in forks of its process, which change themselves as no test process may."""

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import getpid  # a test may have another in its place in the module
from typing import Any, NoReturn, cast

import pytest

#: The process that was started to run tests; what a test forks has this number, too.
_RUNS_TESTS = getpid()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """End a fork that came out of its test: it would report, and run all other tests, beside whom it is a copy of."""
    if getpid() != _RUNS_TESTS:
        print(f"a fork came out of {item.nodeid}: {call.excinfo!r}", file=sys.__stderr__, flush=True)
        os._exit(1)


class ForkError(Exception):
    """What was raised in a fork, as text."""


def result_of[T](work: Callable[[], T]) -> T:
    """Call a function in a fork, wait, and return its result. Raises ForkError for what it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    is_result, value = cast("tuple[bool, Any]", pickle.loads(data))
    if not is_result:
        raise ForkError(value)
    return cast("T", value)


def _answer(work: Callable[[], object], writing: int) -> NoReturn:
    try:
        try:
            data = pickle.dumps((True, work()))
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            data = pickle.dumps((False, f"{type(error).__name__}: {error}"))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)
    finally:
        os._exit(0)


@contextmanager
def fork_that(prepare: Callable[[], object]) -> Iterator[int]:
    """Yield the process id of a fork that has called a function, and sleeps; it is killed at the end.

    Raises ForkError for what the function raises.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            prepare()
            os.write(writing, b"x")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            if not pipe.read(1):
                raise ForkError("the fork couldn't be prepared")
            yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
