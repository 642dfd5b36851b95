"""Every small way to spoil a value of JSON that may say nothing else: for readers of formats, in any place."""

import copy
from collections.abc import Collection, Iterator
from typing import Any


def spoiled(value: Any, *, optional: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """What was done, and the whole: each part dropped (but for those whose dotted path ends like that of an optional
    one), replaced by a number, by a text of one control character, by an object; each object with an unknown key.
    """
    for path in _places(value):
        name = ".".join(map(str, path))
        if not name.endswith(tuple(optional)):
            yield f"without {name}", _changed(value, path, lambda outer, last: outer.pop(last))
        for other in (7, "\0"):
            yield f"{name} is {other!r}", _changed(value, path, lambda outer, last: outer.__setitem__(last, other))  # noqa: B023 - called at once
        yield f"{name} with more", _changed(value, path, _more)


def _more(outer: Any, last: Any) -> None:
    if isinstance(outer[last], dict):
        outer[last]["more"] = "it"
    else:
        outer[last] = {"more": "it"}


def _changed(value: Any, path: tuple[Any, ...], change: Any) -> Any:
    whole = here = copy.deepcopy(value)
    *outer, last = path
    for key in outer:
        here = here[key]
    change(here, last)
    return whole


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _places(inner, (*path, key))
