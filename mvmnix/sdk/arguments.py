"""Checks what a program gives, where Python takes anything: types by the annotations, and texts that no guest takes."""

import inspect
import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache, wraps
from types import FunctionType, UnionType
from typing import Any, Final, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

from mvmnix.sdk.errors import InvalidArgument
from mvmnix.words import Words

#: By the annotation, the types that are taken for it.
_ACCEPTED: Final[Mapping[object, tuple[type, ...]]] = {
    Sequence: (list, tuple),
    float: (int, float),
    bytes: (bytes, bytearray),
}
#: Arguments whose texts are contents, which may have any character.
_CONTENTS: Final = frozenset({"text", "input"})


def check_methods[T: type](kind: T) -> T:
    """Decorate a class: its public methods check what they are given, as `checking` has it."""
    for name, value in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, classmethod | staticmethod):
            setattr(kind, name, type(value)(checking(value.__func__)))
        elif isinstance(value, FunctionType):
            setattr(kind, name, checking(value))
    return kind


def checking[**P, R](call: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function: before it begins, each argument is checked against its annotation, as `check_argument` does.

    Options by name (`**options`) are the operation's to check.
    """

    @wraps(call)
    def check(*given: P.args, **named: P.kwargs) -> R:
        signature, hints = _types(call)
        for name, value in signature.bind(*given, **named).arguments.items():
            if name in hints:
                check_argument(name, value, hints[name])
        return call(*given, **named)

    return inspect.markcoroutinefunction(check) if inspect.iscoroutinefunction(call) else check


@cache
def _types(call: Callable[..., object]) -> tuple[inspect.Signature, Mapping[str, Any]]:
    """Return a function's signature, and its annotations without those of options and of what it returns."""
    signature, hints = inspect.signature(call), get_type_hints(call)
    variadic = {each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD}
    return signature, {name: hint for name, hint in hints.items() if name not in {"return", *variadic}}


def check_fields(value: object) -> None:
    """Check the fields of a dataclass against their annotations, as `check_argument` does."""
    for name, hint in get_type_hints(type(value)).items():
        check_argument(name, getattr(value, name), hint)


def check_options(options: Mapping[str, object], known: type) -> None:
    """Check arguments by their names and annotations, as `check_argument` does; `known` is a TypedDict.

    Raises TypeError for an argument that there isn't, as Python does.
    """
    hints = get_type_hints(known)
    if unknown := sorted(options.keys() - hints.keys()):
        raise TypeError(f"unexpected arguments: {', '.join(unknown)}; known: {', '.join(hints)}")
    for name, value in options.items():
        check_argument(name, value, hints[name])


def check_argument(name: str, value: object, hint: Any) -> None:
    """Check an argument against its annotation; the error names it, and the item that is wrong.

    Raises TypeError for another type; InvalidArgument for a text that isn't among those of a Literal, has a NUL
    character, or, unless it may be a path of this host, can't be said in UTF-8.
    """
    if not _conforms(value, hint):
        if get_origin(hint) is Literal and isinstance(value, str):
            raise _other_choice(name, value, get_args(hint))
        if hint is Words and isinstance(value, str):
            raise TypeError(_words_hint(name, value))
        raise TypeError(_misfit(name, value, hint))
    if name in _CONTENTS:
        return
    for place, text in _texts(name, value):
        if "\0" in text:
            raise InvalidArgument(
                f"{place} has a NUL character", hint="leave it out: no path, word or variable has one"
            )
        if not _may_be_path(hint):
            _check_encodable(place, text)


def choices[E: StrEnum](name: str, words: Sequence[str], known: Iterable[E]) -> tuple[E, ...]:
    """Return the members of an enumeration that are named. Raises InvalidArgument, which lists those that are known."""
    members = {str(each): each for each in known}
    for index, word in enumerate(words):
        if word not in members:
            raise _other_choice(f"{name}[{index}]", word, tuple(members))
    return tuple(members[word] for word in words)


def _other_choice(place: str, text: str, known: Sequence[str]) -> InvalidArgument:
    name, _, index = place.partition("[")
    given = repr(known[0])
    why = f"{place} is {text[:80]!r}, and not {' or '.join(map(repr, known))}"
    return InvalidArgument(why, hint=f"{name}=[{given}]" if index else f"{name}={given}")


def _may_be_path(hint: Any) -> bool:
    """Return whether an argument may name a file of this host, whose bytes needn't be UTF-8."""
    hint = hint.__value__ if isinstance(hint, TypeAliasType) else hint
    return any(get_origin(each) is os.PathLike for each in get_args(hint))


def _check_encodable(place: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{place} has half of a surrogate pair", hint="hand over text that is UTF-8") from None


def _texts(place: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the texts in a value, each with the place where it stands."""
    match value:
        case str():
            yield place, value
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _texts(f"{place}[{index}]", item)
        case Mapping():
            for key, item in value.items():
                yield f"a name in {place}", key
                yield from _texts(f"{place}[{key!r}]", item)
        case os.PathLike():
            yield place, os.fspath(value)
        case _:
            pass


def _conforms(value: object, hint: Any) -> bool:
    """Return whether a value is of an annotated type, items included."""
    if isinstance(hint, TypeAliasType):
        return _conforms(value, hint.__value__)
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return value in arguments
    if kind in {Union, UnionType}:
        return any(_conforms(value, each) for each in arguments)
    if not _is_of(value, kind):
        return False
    if isinstance(value, Mapping):
        return all(_conforms(key, arguments[0]) and _conforms(item, arguments[1]) for key, item in value.items())
    return not isinstance(value, list | tuple) or all(_conforms(item, arguments[0]) for item in value)


def _is_of(value: object, kind: Any) -> bool:
    """Return whether a value is of a class, whatever it holds; a bool is no number, and bytes are no path."""
    if kind is os.PathLike and isinstance(value, os.PathLike):
        return isinstance(os.fspath(value), str)
    return isinstance(value, _ACCEPTED.get(kind, kind)) and (kind is bool or not isinstance(value, bool))


def _misfit(name: str, value: object, hint: Any) -> str:
    """Return why a value isn't of an annotated type: by its own, or by the first item that isn't of its own.

    >>> _misfit("argv", ["sleep", 1], Words)
    'argv[1] is a str, and this one is an int'
    """
    hint = hint.__value__ if isinstance(hint, TypeAliasType) else hint
    for each in get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,):
        if isinstance(value, list | tuple) and isinstance(get_origin(each), type) and _is_of(value, get_origin(each)):
            kind = get_args(each)[0]
            index = next(index for index, item in enumerate(value) if not _conforms(item, kind))
            return _misfit(f"{name}[{index}]", value[index], kind)
    return f"{name} is {_name(hint)}, and this one is {_kind(value)}"


def _words_hint(name: str, text: str) -> str:
    """Return what to write in the place of a command line."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    shell = f"; a shell reads it by box.shell({text!r})" if name == "argv" else ""
    return f"{name} is a list of words: {words!r}{shell}"


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
    if not (0 < value < 2**31):
        raise InvalidArgument(f"{name} is {value!r}, and not a number of seconds above 0", hint=f"{name}=60")
    return math.ceil(value)
