"""Runs the steps of an operation in the thread that calls it; what they raise becomes the SDK's."""

from collections.abc import Callable

from mvmnix.errors import MvmnixError
from mvmnix.launch.control import drivers
from mvmnix.launch.control.drivers import Steps, Work
from mvmnix.sdk.errors import translate


def run[T](steps: Steps[T]) -> T:
    """Run the steps in this thread; what they raise is the SDK's."""
    return drivers.run(in_terms_of_the_sdk(steps))


def in_terms_of_the_sdk[T](steps: Steps[T]) -> Steps[T]:
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
