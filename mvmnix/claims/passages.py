"""Splits files into passages, each with its section and its place in the file; pure.

Of Markdown these are paragraphs, items of lists, rows of tables and lines of code blocks. Of Python these are the
paragraphs of docstrings and help texts, and every line as code. Of any other file these are its lines, as code.
"""

import ast
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from mvmnix.claims.markdown import blank_comments, blank_fences, find_code, split_lines
from mvmnix.claims.patterns import blank

_HEADING: Final = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_HISTORY: Final = re.compile(r"(?i)(?:^|/)(?:changelog|changes|history|news|releases?)\b[^/]*$")
#: Where one sentence ends and another one begins.
_END: Final = re.compile(r"(?<=[.!?])[\"')\]*_`]*\s+(?=[\"'(\[*_`A-Z0-9])")
#: Characters of a passage. Some rules take time with the square of it, and a stranger's change is linted, too.
_LONGEST: Final = 1500
#: Parts of a line: whole words as far as these go; in prose without emphasis, and without what can't be seen.
_CODE: Final = re.compile(rf"(?:.{{1,{_LONGEST - 1}}}(?:\s|$)|.{{1,{_LONGEST}}})")
_UNSEEN: Final = r"\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
_SHOWN: Final = re.compile(rf"[^*{_UNSEEN}]{{1,{_LONGEST}}}")
#: What begins or ends a string in a line.
_QUOTES: Final = re.compile(r"""^\s*[rRuU]?["']+|["']+$""")
#: Names of arguments whose text a user reads.
_HELP: Final = frozenset({"help", "short_help", "epilog", "description"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file: line and column, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Section:
    """The part of a file under one heading: `heading` names those above it too, `text` includes comments."""

    path: str
    heading: str
    text: str

    @property
    def prose(self) -> str:
        """Its text with empty lines for fenced code of Markdown."""
        return _prose_of(self)

    @property
    def lead(self) -> str:
        """Its first paragraph, at most _LONGEST characters of it."""
        return _lead_of(self)

    @property
    def anchor(self) -> str:
        """The fragment that links to it, as code hosts make it of the last heading."""
        title = re.sub(r"[^\w\- ]", "", self.heading.rpartition(" / ")[2].lower())
        return title.strip().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text in one line, and the section around it; `is_code` where it isn't prose."""

    text: str
    section: Section
    is_code: bool
    #: Offsets in the text at which lines of the file begin, and where.
    _starts: tuple[tuple[int, Place], ...] = field(repr=False)

    def place(self, offset: int) -> Place:
        """Return where a character of the text stands in the file."""
        at = bisect_right(self._starts, offset, key=lambda start: start[0]) - 1
        begin, place = self._starts[max(at, 0)]
        return Place(place.line, place.column + offset - begin)

    @property
    def lines(self) -> range:
        """The numbers of its lines in the file, from 1."""
        return range(self._starts[0][1].line, self._starts[-1][1].line + 1)

    def sentences(self) -> Iterator[tuple[int, str]]:
        """Yield the offset of each sentence, and its text."""
        begin = 0
        for end in _END.finditer(self.text):
            yield begin, self.text[begin : end.start()]
            begin = end.end()
        yield begin, self.text[begin:]


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str


def read_passages(path: str, text: str) -> Iterator[Passage]:
    """Yield the passages of a file, which its suffix says how to read; of what is no Python its lines alone."""
    if is_markdown(path):
        for section, lines in _sections(path, text):
            yield from _of_markdown(lines, section)
        return
    if PurePosixPath(path).suffix in {".py", ".pyi"}:
        yield from _of_python(path, text)
    yield from _of_code(path, text)


def is_markdown(path: str) -> bool:
    """Return whether a path is a Markdown document's, by its suffix."""
    return PurePosixPath(path).suffix in {".md", ".markdown"}


def is_history(path: str) -> bool:
    """Return whether a document tells what changed, and claims nothing of what is, by its name."""
    return _HISTORY.search(path) is not None


@lru_cache(maxsize=64)
def _prose_of(section: Section) -> str:
    """Return a section's prose, for which each of its passages asks."""
    return blank_fences(section.text) if is_markdown(section.path) else section.text


@lru_cache(maxsize=64)
def _lead_of(section: Section) -> str:
    paragraphs = [part for part in section.prose.split("\n\n", 2)[:2] if part.strip()]
    is_heading = len(paragraphs) > 1 and _HEADING.fullmatch(paragraphs[0].strip()) is not None
    return next(iter(paragraphs[is_heading:]), "")[:_LONGEST]


def read_sections(path: str, text: str) -> Iterator[Section]:
    """Yield the sections of a Markdown document (CommonMark 0.31.2, ATX headings)."""
    for section, _ in _sections(path, text):
        yield section


def _of_python(path: str, text: str) -> Iterator[Passage]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = split_lines(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if (constant := _docstring(node)) is not None:
                yield from _of_string(constant, path, "" if isinstance(node, ast.Module) else node.name, lines)
        elif isinstance(node, ast.keyword) and node.arg in _HELP and isinstance(node.value, ast.Constant):
            yield from _of_string(node.value, path, node.arg or "", lines)


def _of_code(path: str, text: str) -> Iterator[Passage]:
    section = Section(path, "", text)
    for number, line in enumerate(split_lines(text), 1):
        if line.strip():
            yield from _join([_Line(number, line)], section, is_code=True)


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.Constant | None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str()) as found), *_]:
            return found
        case _:
            return None


def _of_string(constant: ast.Constant, path: str, name: str, lines: list[str]) -> Iterator[Passage]:
    """Yield the paragraphs of a string, as its lines in the file show them."""
    if not isinstance(constant.value, str):
        return
    last = constant.end_lineno or constant.lineno
    parts = lines[constant.lineno - 1 : last]
    parts[-1] = _until(parts[-1], constant.end_col_offset)
    begin = len(_until(parts[0], constant.col_offset))
    parts[0] = " " * begin + parts[0][begin:]
    without_quotes = [blank(_QUOTES, part) for part in parts]
    section = Section(path, name, constant.value)
    for paragraph in _paragraphs([_Line(*each) for each in enumerate(without_quotes, constant.lineno)]):
        yield from _join(paragraph, section, is_code=False)


def _until(line: str, offset: int | None) -> str:
    """Return the part of a line before an offset in bytes of UTF-8, as ast counts."""
    return line.encode()[:offset].decode(errors="ignore")


def _sections(path: str, text: str) -> Iterator[tuple[Section, list[_Line]]]:
    headings, lines = list[str](), list[_Line]()
    texts = split_lines(text)
    for number, (line, (is_code, is_fence)) in enumerate(zip(texts, find_code(texts), strict=True), 1):
        if not is_code and not is_fence and (begins := _HEADING.match(line)):
            yield _section(path, headings, lines), lines
            level = len(begins.group(1)) - 1
            headings = [*headings[:level], *[""] * (level - len(headings)), begins.group(2)]
            lines = []
        lines.append(_Line(number, line))
    yield _section(path, headings, lines), lines


def _section(path: str, headings: list[str], lines: list[_Line]) -> Section:
    heading = " / ".join(name[:_LONGEST] for name in headings if name)
    return Section(path, heading, "\n".join(line.text for line in lines))


def _of_markdown(lines: list[_Line], section: Section) -> Iterator[Passage]:
    prose = list[_Line]()
    code = list(find_code([line.text for line in lines]))
    shown = ["" if any(found) else line.text for line, found in zip(lines, code, strict=True)]
    for line, text, (is_code, is_fence) in zip(lines, blank_comments(shown), code, strict=True):
        if is_fence:
            yield from _prose(prose, section)
            prose = []
        elif is_code:
            yield from _join([line] if line.text.strip() else [], section, is_code=True)
        else:
            prose.append(_Line(line.number, text))
    yield from _prose(prose, section)


def _prose(lines: list[_Line], section: Section) -> Iterator[Passage]:
    for paragraph in _paragraphs(lines):
        yield from _join(paragraph, section, is_code=False)


def _paragraphs(lines: list[_Line]) -> Iterator[list[_Line]]:
    paragraph, was_heading = list[_Line](), False
    for line in lines:
        text = line.text.strip()
        is_heading = _HEADING.match(line.text) is not None
        begins = _ITEM.match(line.text) or text.startswith("|") or is_heading or was_heading
        was_heading = is_heading
        if paragraph and (not text or begins):
            yield paragraph
            paragraph = []
        if text:
            paragraph.append(line)
    if paragraph:
        yield paragraph


def _join(lines: list[_Line], section: Section, *, is_code: bool) -> Iterator[Passage]:
    """Yield a paragraph as one passage, a longer one in pieces, and no piece for none."""
    text, starts = "", list[tuple[int, Place]]()
    for number, begin, part in _parts(lines, _CODE if is_code else _SHOWN):
        if len(text) + len(part) > _LONGEST and text:
            yield Passage(text, section, is_code, tuple(starts))
            text, starts = "", []
        if text and starts[-1][1].line != number:
            text += " "
        starts.append((len(text), Place(number, begin)))
        text += part
    if text:
        yield Passage(text, section, is_code, tuple(starts))


def _parts(lines: list[_Line], pattern: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
    """Yield number, column and text of what a reader sees of lines, in parts of at most _LONGEST characters."""
    for line in lines:
        end = len(line.text.rstrip())
        for found in pattern.finditer(line.text, len(line.text) - len(line.text.lstrip()), end):
            yield line.number, 1 + found.start(), found.group()
