"""Checks what a program gives by name, where Python takes any name and any number."""

import math
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Final, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

from mvmnix.sdk.errors import InvalidArgument

#: By the annotation, the types that are taken for it.
_ACCEPTED: Final[Mapping[object, tuple[type, ...]]] = {Sequence: (list, tuple), float: (int, float)}


def check_options(options: Mapping[str, object], known: type) -> None:
    """Check arguments by their names and annotations; `known` is a TypedDict.

    Raises TypeError for an argument that there isn't, as Python does, and for one of another type; InvalidArgument for
    one that isn't among those of a Literal.
    """
    hints = get_type_hints(known)
    if unknown := sorted(options.keys() - hints.keys()):
        raise TypeError(f"unexpected arguments: {', '.join(unknown)}; known: {', '.join(hints)}")
    for name, value in options.items():
        if not _conforms(value, hints[name]):
            if get_origin(hints[name]) is Literal and isinstance(value, str):
                choices = " or ".join(map(repr, get_args(hints[name])))
                raise InvalidArgument(f"{name} is {value[:80]!r}, and not {choices}", hint=f"{name}=…")
            raise TypeError(f"{name} is {_name(hints[name])}, and this one is {_kind(value)}")


def _conforms(value: object, hint: Any) -> bool:
    """Return whether a value is of an annotated type, items included."""
    if isinstance(hint, TypeAliasType):
        return _conforms(value, hint.__value__)
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return value in arguments
    if kind in {Union, UnionType}:
        return any(_conforms(value, each) for each in arguments)
    if not isinstance(value, _ACCEPTED.get(kind, kind)) or isinstance(value, bool):
        return False
    if isinstance(value, Mapping):
        return all(_conforms(key, arguments[0]) and _conforms(item, arguments[1]) for key, item in value.items())
    return not arguments or all(_conforms(item, arguments[0]) for item in value)


def _name(hint: object) -> str:
    """Return an annotation as a reader of the documentation knows it.

    >>> _name(Mapping[str, str]), _name(float)
    ('a Mapping[str, str]', 'a float')
    """
    if isinstance(hint, TypeAliasType):
        return _name(hint.__value__)
    if get_origin(hint) in {Union, UnionType}:
        return " or ".join(map(_name, get_args(hint)))
    inner = ", ".join(_name(each).removeprefix("a ").removeprefix("an ") for each in get_args(hint) if each is not ...)
    name = getattr(get_origin(hint) or hint, "__name__", str(hint)) + (f"[{inner}]" if inner else "")
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _kind(value: object) -> str:
    """Return what a value is, without the value, which may be a secret: its type, and those of what it holds.

    >>> _kind("x"), _kind(["x", 1])
    ('a str', 'a list of int, str')
    """
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    kinds = sorted({type(item).__name__ for item in items})
    return f"{article} {name}" + (f" of {', '.join(kinds)}" if kinds else "")


def between(value: int | None, name: str, least: int, most: int) -> int | None:
    """Return a number. Raises InvalidArgument for one that is out of its bounds."""
    if value is not None and not least <= value <= most:
        raise InvalidArgument(f"{name} is {value}, and not a number from {least} to {most}", hint=f"{name}={least}")
    return value


def seconds(value: float | None, name: str) -> int | None:
    """Return a time as whole seconds, rounded up. Raises InvalidArgument for what is no time."""
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds, and this one is {_kind(value)}")
    if not (0 < value < 2**31):
        raise InvalidArgument(f"{name} is {value!r}, and not a number of seconds above 0", hint=f"{name}=60")
    return math.ceil(value)
