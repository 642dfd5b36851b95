"""A command, and several names, are a list: a `str` in their place is refused at once, wherever the API takes some."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any, TypeAliasType

import pytest

from mvmnix import api
from mvmnix.launch.runtime.machine import Machine
from mvmnix.model import Workload
from mvmnix.words import Words

#: Fields that hold the words of a command, of nouns that a caller makes.
COMMANDS = ("argv", "command", "words")
#: What a `str` is, too, for a type checker.
LOOSE = ("Iterable[str]", "Sequence[str]", "Collection[str]")


def callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """What the API lets its callers call: functions, makers of nouns, and their methods."""
    for name in dir(api):
        found = getattr(api, name)
        if isinstance(found, TypeAliasType) or not callable(found):
            continue
        yield name, found
        for method, function in inspect.getmembers(found, inspect.isroutine) if inspect.isclass(found) else ():
            if not method.startswith("_"):
                yield f"{name}.{method}", function


def parameters() -> Iterator[tuple[str, Callable[..., Any], inspect.Parameter]]:
    for name, function in callables():
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            continue  # a builtin type's
        for parameter in signature.parameters.values():
            yield name, function, parameter


def takes_words(function: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    return parameter.annotation is Words or (is_dataclass(function) and parameter.name in COMMANDS)


TAKERS: list[tuple[str, Callable[..., Any], str]] = [
    *((f"{name}({it.name})", function, it.name) for name, function, it in parameters() if takes_words(function, it)),
    ("Workload(argv)", Workload, "argv"),
    ("Machine.exec(argv)", Machine.exec, "argv"),
]


def call(function: Callable[..., Any], name: str, value: object) -> None:
    """Call it with this value, and with None for whatever else it wants."""
    wanted = inspect.signature(function).parameters.values()
    others = {it.name: None for it in wanted if it.default is it.empty and it.name != name}
    made = function(**others, **{name: value})
    if inspect.isgenerator(made):
        next(made)


def test_who_takes_words() -> None:
    names = {name for name, _, _ in TAKERS}
    assert len(names) >= 15
    assert {"PlanOptions(command)", "Exec(argv)", "Shell(argv)", "stop_machines(names)"} <= names


def test_no_annotation_admits_a_str_for_words() -> None:
    loose = [(name, it.name) for name, _, it in parameters() if any(text in str(it.annotation) for text in LOOSE)]
    assert loose == []


@pytest.mark.parametrize("value", ["ls -l", b"ls -l", ["ls", 7], iter(["ls"])], ids=["str", "bytes", "int", "iterator"])
@pytest.mark.parametrize(("function", "name"), [it[1:] for it in TAKERS], ids=[it[0] for it in TAKERS])
def test_what_is_no_list_of_words_is_refused_at_once(function: Callable[..., Any], name: str, value: object) -> None:
    with pytest.raises(TypeError, match=r"words are a list|each word is a str"):
        call(function, name, value)


def test_a_list_is_as_good_as_a_tuple() -> None:
    assert api.PlanOptions(command=["ls", "-l"]) == api.PlanOptions(command=("ls", "-l"))  # type: ignore[arg-type]
    assert api.Exec(["ls", "-l"]) == api.Exec(("ls", "-l"))  # type: ignore[arg-type]
