"""The one list of the texts that a plan holds: every string of its statement, names of members included; pure.

The statement is walked as it is signed, so that a field that plans get later is in the list without being named here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from mvmnix import strict
from mvmnix.errors import ReasonCode, refuse
from mvmnix.provenance.bundle.statement import Statement

type _Path = tuple[str | int, ...]

#: What people call some fields; the others are called by their place in the statement.
_CALLED: Final[Mapping[_Path, str]] = {
    ("image", "kernelCommandLine"): "the kernel command line",
    ("workload", "directory"): "the working directory",
}
#: The objects whose members a plan's author names, and what such a member is.
_NAMED_BY_AUTHOR: Final[Mapping[_Path, str]] = {("workload", "environment"): "variable", ("labels",): "label"}
_COMMAND: Final = ("workload", "command")
_SECRETS: Final = ("secrets",)


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a plan. `where` it stands, for people, says nothing of it, but may have `author`, a name beside it.

    `meaning` is what the text is by the word before it, an option or the name of a member; empty where there is none.
    """

    where: str
    content: str = field(repr=False)
    meaning: str = field(default="", repr=False)
    author: str = field(default="", repr=False)


def of_plan(statement: Statement) -> Iterator[Text]:
    """All texts of a plan, by its statement. Raises RefusedError [plan-malformed] for what no signed plan can hold."""
    try:
        value = strict.parse_json(statement.to_bytes())
    except strict.MalformedError as error:
        hint = "use UTF-8 in the command, in labels and in paths"
        raise refuse(ReasonCode.PLAN_MALFORMED, "the plan", str(error), hint) from error
    predicate = value.pop("predicate") if isinstance(value, dict) else None
    yield from _walk((), predicate)
    yield from _walk(("statement",), value)


def of_command(argv: Sequence[str]) -> Iterator[Text]:
    """The words of a command."""
    for number, (word, meaning) in enumerate(_words(argv)):
        yield Text(f"argument {number} of the command" if number else "the command's program", word, meaning)


def of_members(kind: str, members: Mapping[str, object]) -> Iterator[Text]:
    """Names and values of variables or labels; `kind` is what one of them is called."""
    for name, content in members.items():
        yield Text(f"the name of a {kind}", name)
        if isinstance(content, str):
            yield Text(f"the value of the {kind} {name}", content, name, name)


def _words(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each word, with the option before it that it may be the value of."""
    for before, word in pairwise(("", *words)):
        is_value = before.startswith("-") and not word.startswith("-")
        yield word, before.lstrip("-") if is_value else ""


def _walk(path: _Path, value: object) -> Iterator[Text]:
    match value:
        case str():
            name = _member(path)
            yield Text(_CALLED.get(path, f"the field {'.'.join(map(str, path))}"), value, name, name)
        case list() if path == _COMMAND:
            yield from of_command([str(word) for word in value])
        case list():
            for number, each in enumerate(value):
                yield from _walk((*path, number), each)
        case dict() if path in _NAMED_BY_AUTHOR:
            yield from of_members(_NAMED_BY_AUTHOR[path], value)
        case dict() if path[:-1] == _SECRETS:
            yield from _secret(path, value)
        case dict():
            for name, each in value.items():
                yield Text("the name of a field", name)
                yield from _walk((*path, name), each)
        case _:
            pass


def _member(path: _Path) -> str:
    return next((step for step in path[-1:] if isinstance(step, str)), "")


def _secret(path: _Path, it: Mapping[str, object]) -> Iterator[Text]:
    """A reference to a secret; its words may be those of a command."""
    for name, value in it.items():
        if name != "reference":
            yield from _walk((*path, name), value)
    author, words = str(it.get("name", "")), it.get("reference")
    for number, (word, meaning) in enumerate(_words(list(map(str, words)) if isinstance(words, list) else [])):
        yield Text(f"word {number} of the reference of {author}", word, meaning, author)
