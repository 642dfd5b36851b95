"""Both faces of the SDK behind one: a case is written for asyncio, and the blocking face is called the same way."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import wraps
from typing import Any

import mvmnix
from mvmnix import aio

#: Classes of the blocking face, and those of asyncio's that they stand for.
TWINS: dict[type, type] = {
    getattr(mvmnix, name): getattr(aio, name)
    for name in (
        "Sandbox",
        "Files",
        "Process",
        "Reader",
        "Writer",
        "Stream",
        "Image",
        "Plan",
        "Pool",
        "Snapshot",
        "Audit",
    )
}


class Opened:
    """What the blocking face opens, as `aio.Opener` is used."""

    def __init__(self, open_it: Callable[[], Any]) -> None:
        self._open = open_it
        self._made: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return seen(self._open())

    async def __aenter__(self) -> Any:
        self._made = self._open()
        return seen(self._made.__enter__())

    async def __aexit__(self, *error: object) -> None:
        self._made.__exit__(*error)


class Seen:
    """An object of the blocking face, whose methods are awaited where asyncio's are."""

    def __init__(self, target: Any, twin: type) -> None:
        self._target = target
        self._twin = twin

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or isinstance(value, type):
            return seen(value)
        own = inspect.getattr_static(self._twin, name)
        own = getattr(own, "__func__", own)
        if inspect.iscoroutinefunction(own):
            return lambda *given, **named: _later(lambda: value(*given, **named))
        if inspect.isasyncgenfunction(own) or "AsyncIterator" in str(own.__annotations__["return"]):
            return lambda *given, **named: _iterate(value(*given, **named))
        if "Opener" in str(own.__annotations__["return"]):
            return lambda *given, **named: Opened(lambda: value(*given, **named))
        return lambda *given, **named: seen(value(*given, **named))

    def __aiter__(self) -> AsyncIterator[Any]:
        return _iterate(iter(self._target))

    async def __aenter__(self) -> Any:
        return seen(self._target.__enter__())

    async def __aexit__(self, *error: object) -> None:
        self._target.__exit__(*error)


async def _later(call: Callable[[], Any]) -> Any:
    return seen(call())


async def _iterate(found: Iterator[Any]) -> AsyncIterator[Any]:
    for each in found:
        yield seen(each)


def seen(value: Any) -> Any:
    """The value, or its view where asyncio has another class for it; an image is data, and calls nothing."""
    is_viewed = type(value) in TWINS and not isinstance(value, mvmnix.Image)
    return Seen(value, TWINS[type(value)]) if is_viewed else value


class Face:
    """A face by its name; `face.Sandbox` and the others are called as those of `mvmnix.aio`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if self.name == "asyncio":
            return getattr(aio, name)
        value = getattr(mvmnix, name)
        if isinstance(value, type):
            return Seen(value, TWINS[value])
        return lambda *given, **named: _later(lambda: value(*given, **named))


def on_both[**P](test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a case, which takes the fixture `face`."""

    @wraps(test)
    def run(*given: P.args, **named: P.kwargs) -> None:
        asyncio.run(test(*given, **named))

    return run
