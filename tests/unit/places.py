"""Walks the places of a document, and changes it at one of them."""

import copy
from collections.abc import Iterator
from typing import Any

type Place = tuple[str | int, ...]


def places(value: object, path: Place = ()) -> Iterator[Place]:
    yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from places(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def at(value: Any, path: Place) -> Any:
    for step in path:
        value = value[step]
    return value


def changed(value: Any, path: Place, new: object) -> Any:
    """A copy of what is on the way to the place; the rest is shared."""
    if not path:
        return new
    made = copy.copy(value)
    made[path[0]] = changed(value[path[0]], path[1:], new)
    return made
