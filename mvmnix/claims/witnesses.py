"""Finds the tests that a text names as witnesses, and whether they exist and run."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, override

#: Returns the bytes of a file of the project by its path from the project's directory, None without one.
type Read = Callable[[str], bytes | None]

#: A word with a colon, a row that heads a table, or a heading.
_MARKER: Final = re.compile(
    r"\bwitness(?:es)?\b\s*:|^\|(?=.*\bwitness(?:es)?\s*\|).*$|^#+ Witness(?:es)?$", re.IGNORECASE | re.MULTILINE
)
#: The head of a table with a column for witnesses.
_HEAD: Final = re.compile(r"^\|(?=.*\bwitness(?:es)?\s*\|).*$", re.IGNORECASE | re.MULTILINE)
_NAME: Final = re.compile(
    r"(?<![\w./-])(?P<file>[\w.-]{1,255}(?:/[\w.-]{1,255}){1,32}\.(?!md\b)\w{1,16})(?:::(?P<test>[\w:]+))?"
)
#: The end of a paragraph; the second where a marker ends its line, and may have a list below it.
_END: Final = re.compile(r"\n\s*(?:\n|[-*+] )")
_END_OF_LIST: Final = re.compile(r"\n[ \t]*\n(?![ \t]*[-*+] )")
_NEXT_HEADING: Final = re.compile(r"\n#+ ")
#: A part of a path by which a file is one of tests or benchmarks.
_TEST: Final = re.compile(r"(?i)(?:^|[/_.-])(?:tests?|bench(?:es|marks?)?|specs?|checks?|e2e|fuzz)(?:[/_.-]|$)")
#: Decorators and marks with which a test doesn't run, or may fail.
_IDLE: Final = frozenset({"skip", "xfail", "expectedFailure"})
#: The same in other languages, on the line of a test's name or up to two lines before it.
_IDLE_ELSEWHERE: Final = r"(?:#\[ignore|\b(?:it|test|describe|t)\.(?:skip|todo|Skip)\b|\bx(?:it|describe)\()"


@dataclass(frozen=True, slots=True)
class Witness:
    """A test or benchmark that a text names: the offset of its name in the text, its file, and the test or ""."""

    offset: int
    file: str
    test: str

    @override
    def __str__(self) -> str:
        return f"{self.file}::{self.test}" if self.test else self.file


def find_witnesses(text: str) -> Iterator[Witness]:
    """Yield what is named behind `Witness:`, to the end of the paragraph, and below such a column's head in a table."""
    past = 0
    for marker in _MARKER.finditer(text):
        end = _end(text, marker.end())
        yield from _read_names(text, max(past, marker.end()), end)
        past = max(past, end)


def find_in_row(section: str, text: str) -> tuple[Witness, ...] | None:
    """Return what a row of a table with a column for witnesses names there; None for any other text."""
    if not text.startswith("|") or _HEAD.search(section) is None:
        return None
    return tuple(_read_names(text, 0, len(text)))


def _read_names(text: str, begin: int, end: int) -> Iterator[Witness]:
    """Yield the tests and benchmarks that a part of a text names; other paths stand there as well."""
    for found in _NAME.finditer(text, begin, end):
        if _TEST.search(found["file"]):
            yield Witness(found.start(), found["file"], found["test"] or "")


def _end(text: str, begin: int) -> int:
    """Return where what a marker introduces ends."""
    if text[:begin].rpartition("\n")[2].startswith("#"):
        found = _NEXT_HEADING.search(text, begin)
        return len(text) if found is None else found.start()
    pattern = _END_OF_LIST if text[begin : begin + 1] == "\n" else _END
    found = pattern.search(text, begin)
    return len(text) if found is None else found.start()


def why_missing(witness: Witness, read: Read, outcomes: Mapping[str, str]) -> str:
    """Return why a witness shows nothing, "" where it does.

    Args:
        witness: the test that is named.
        read: returns the project's files.
        outcomes: "passed", "skipped" or "failed" of tests in a given run, by name; empty without one.
    """
    if (outcome := outcomes.get(str(witness), "passed")) != "passed":
        return f"it {'was skipped' if outcome == 'skipped' else outcome} in the given results"
    data = read(witness.file)
    if data is None:
        return "there is no such file"
    test = witness.test.rpartition("::")[2]
    if witness.file.endswith(".py"):
        return _why_idle_python(data, test)
    return _why_idle(data.decode(errors="replace"), test) if test else ""


def _why_idle_python(data: bytes, test: str) -> str:
    tests = _read_tests(data)
    if tests is None:
        return "its file isn't Python"
    if tests.get("", False):
        return "its file is skipped"
    if test and test not in tests:
        return "its file has no such test"
    return "it is skipped" if test and tests[test] else ""


@lru_cache(maxsize=1024)
def _read_tests(data: bytes) -> Mapping[str, bool] | None:
    """Return whether each function and class of a module is skipped, and under "" the module; None for no Python."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    marks = [node.value for node in tree.body if isinstance(node, ast.Assign) and _names_mark(node)]
    return dict(_tests_in(tree.body)) | {"": any(map(_is_idle, marks))}


def _tests_in(body: list[ast.stmt]) -> Iterator[tuple[str, bool]]:
    """Yield functions and classes of a module or class, those in classes too, and whether each is skipped."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, any(map(_is_idle, node.decorator_list))
        if isinstance(node, ast.ClassDef):
            yield from _tests_in(node.body)


def _names_mark(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _is_idle(expression: ast.expr) -> bool:
    match expression:
        case ast.Call(func=called):
            return _is_idle(called)
        case ast.List(elts=marks) | ast.Tuple(elts=marks):
            return any(map(_is_idle, marks))
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in _IDLE
        case _:
            return False


def _why_idle(text: str, test: str) -> str:
    """Return the same for a language that isn't parsed: by the lines around the test's name."""
    lines = text.splitlines()
    name = re.compile(rf"(?<!\w){re.escape(test)}(?!\w)")
    found = next((number for number, line in enumerate(lines) if name.search(line)), None)
    if found is None:
        return "its file has no such test"
    around = "\n".join(lines[max(found - 2, 0) : found + 1])
    return "it is skipped" if re.search(_IDLE_ELSEWHERE, around) else ""
