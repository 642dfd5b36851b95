"""Finds the tests that a text names as witnesses, and whether they exist and run."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeIs, override

#: Returns the bytes of a file of the project by its path from the project's directory, None without one.
type Read = Callable[[str], bytes | None]

_WITNESS: Final = re.compile(r"witness(?:es)?", re.IGNORECASE)
#: A word with a colon, the head of a table with a column for witnesses, and both of these or a heading.
_MARKED: Final = re.compile(rf"\b{_WITNESS.pattern}\b\s*:", re.IGNORECASE)
_HEAD: Final = re.compile(rf"^\|(?=.*\b{_WITNESS.pattern}\s*\|).*$", re.IGNORECASE | re.MULTILINE)
_MARKER: Final = re.compile(rf"{_MARKED.pattern}|{_HEAD.pattern}|^#+ {_WITNESS.pattern}$", re.IGNORECASE | re.MULTILINE)
_BENCH: Final = re.compile(r"(?:.*/)?bench(?:es|marks?)?/")
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
    if not text.startswith("|") or not (columns := _columns(section)):
        return None
    cells = _cells(text)
    named = [cell for name, cell in zip(columns, cells, strict=False) if _WITNESS.fullmatch(name)]
    if len(columns) != len(cells) or not named:
        return None
    return tuple(_read_names(named[0], 0, len(named[0]))) or (None if _is_marked(section) else ())


@lru_cache(maxsize=16)
def _columns(section: str) -> tuple[str, ...]:
    """Return the heads of the first table with a column for witnesses; each row of a section asks for them."""
    head = _HEAD.search(section)
    return () if head is None else tuple(_cells(head.group()))


@lru_cache(maxsize=16)
def _is_marked(section: str) -> bool:
    return _MARKED.search(section) is not None


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").replace("\\|", " ").split("|")]


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
    data = read(witness.file)
    if data is None:
        return "there is no such file"
    names = tuple(filter(None, witness.test.split("::")))
    if witness.file.endswith(".py"):
        return _why_idle_python(data, names) or _why_not_passed(witness, outcomes)
    return _why_idle(data.decode(errors="replace"), names[-1]) if names else ""


def _why_not_passed(witness: Witness, outcomes: Mapping[str, str]) -> str:
    match outcomes.get(str(witness), "passed" if not outcomes or _BENCH.match(witness.file) else ""):
        case "passed":
            return ""
        case "":
            return "it isn't in the given results"
        case outcome:
            return f"it {'was skipped' if outcome == 'skipped' else outcome} in the given results"


def _why_idle_python(data: bytes, names: tuple[str, ...]) -> str:
    """Return the same for a module, and a test by the names of its classes and its own."""
    tests = _read_tests(data)
    if tests is None:
        return "its file isn't Python"
    if tests.get("", False):
        return "its file is skipped"
    if any(name not in tests for name in names):
        return "its file has no such test"
    if names and not names[-1].lower().startswith("test"):
        return "it isn't called as tests are"
    return "it is skipped" if any(tests[name] for name in names) else ""


@lru_cache(maxsize=1024)
def _read_tests(data: bytes) -> Mapping[str, bool] | None:
    """Return whether each function and class of a module is skipped, and under "" the module; None for no Python."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    marks = [node.value for node in tree.body if _is_mark(node)]
    return dict(_tests_in(tree.body)) | {"": any(map(_is_idle, marks))}


def _tests_in(body: list[ast.stmt]) -> Iterator[tuple[str, bool]]:
    """Yield functions and classes of a module or class, those in classes too, and whether each is skipped."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, any(map(_is_idle, node.decorator_list))
        if isinstance(node, ast.ClassDef):
            yield from _tests_in(node.body)


def _is_mark(node: ast.stmt) -> TypeIs[ast.Assign | ast.AnnAssign | ast.Expr]:
    """Return whether a statement of a module may skip it: `pytestmark = …`, or a call of `pytest.skip`."""
    match node:
        case ast.Assign(targets=[ast.Name(id="pytestmark")]) | ast.AnnAssign(target=ast.Name(id="pytestmark")):
            return node.value is not None
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="skip"))):
            return True
        case _:
            return False


def _is_idle(expression: ast.expr | None) -> bool:
    marks = expression.elts if isinstance(expression, ast.List | ast.Tuple) else [expression]
    return any(_name_of(mark) in _IDLE for mark in marks)


def _name_of(mark: ast.expr | None) -> str:
    """Return the last name of a mark, called or not."""
    called = mark.func if isinstance(mark, ast.Call) else mark
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _why_idle(text: str, test: str) -> str:
    """Return the same for a language that isn't parsed: by the lines around the test's name."""
    lines = text.splitlines()
    name = re.compile(rf"(?<!\w){re.escape(test)}(?!\w)")
    found = next((number for number, line in enumerate(lines) if name.search(line)), None)
    if found is None:
        return "its file has no such test"
    around = "\n".join(lines[max(found - 2, 0) : found + 1])
    return "it is skipped" if re.search(_IDLE_ELSEWHERE, around) else ""
