"""Checks what a program gives by name, where Python takes any name and any number."""

import math
from collections.abc import Mapping

from mvmnix.sdk.errors import InvalidArgument


def refuse_unknown(options: Mapping[str, object], known: type) -> None:
    """Raise TypeError for an argument that there isn't, as Python does; `known` is a TypedDict."""
    if unknown := sorted(options.keys() - known.__annotations__.keys()):
        raise TypeError(f"unexpected arguments: {', '.join(unknown)}; known: {', '.join(known.__annotations__)}")


def seconds(value: float | None, name: str) -> int | None:
    """Return a time as whole seconds, rounded up. Raises InvalidArgument for what is no time."""
    if value is None:
        return None
    if not (0 < value < 2**31):
        raise InvalidArgument(f"{name} is {value!r}, and not a number of seconds above 0", hint=f"{name}=60")
    return math.ceil(value)
