"""The lines on which keys of TOML stand, in whatever form they are written; no text is too odd to be walked."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, override

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.formats import toml_positions
from mvmnix.formats.strict import Place
from mvmnix.formats.toml_positions import Position, locate
from tests.unit.places import at, places

#: `~~~` stands for three quotation marks, and `^^^` for three apostrophes.
EVERYTHING = (
    r"""# a comment = 1
version = 1
fetch.hosts = ["a]", 'b#', # "c"
  ~~~d
]~~~, ^^^e
}^^^]
fetch."size limit".'in MiB' = 1_000
time = 2037-01-01 00:00:00Z # a blank in its middle
text = ~~~
[no.table]
key = "\"~~~ # no \
quotes = ~~~a~~~~~
"quoted \u00e4 \"" = {inner = {deep = 1, "d.e" = [1, [2, 3], {f = 4}]}, last = true}

[table.within]
x = 1
[table]
y = 2
  [[ list ]]
a = 1
[list.sub]
b = 2
[[list.more]]
c = 3
[[list.more]]
c = 4
[[list]]
a = 5
[list.sub]
b = 6
[[list.more]]
c = 7
""".replace("~~~~~", '"' * 5)
    .replace("~~~", '"' * 3)
    .replace("^^^", "'" * 3)
)
LINES: Mapping[Place, tuple[int, int]] = {
    ("version",): (2, 1),
    ("fetch",): (3, 1),
    ("fetch", "hosts"): (3, 1),
    ("fetch", "hosts", 0): (3, 16),
    ("fetch", "hosts", 1): (3, 22),
    ("fetch", "hosts", 2): (4, 3),
    ("fetch", "hosts", 3): (5, 7),
    ("fetch", "size limit", "in MiB"): (7, 1),
    ("time",): (8, 1),
    ("text",): (9, 1),
    ("quotes",): (12, 1),
    ('quoted ä "',): (13, 1),
    ('quoted ä "', "inner"): (13, 23),
    ('quoted ä "', "inner", "deep"): (13, 32),
    ('quoted ä "', "inner", "d.e", 1, 1): (13, 58),
    ('quoted ä "', "inner", "d.e", 2, "f"): (13, 63),
    ('quoted ä "', "last"): (13, 73),
    ("table", "within", "x"): (16, 1),
    ("table",): (17, 1),
    ("table", "y"): (18, 1),
    ("list",): (19, 3),
    ("list", 0): (19, 3),
    ("list", 0, "a"): (20, 1),
    ("list", 0, "sub"): (21, 1),
    ("list", 0, "sub", "b"): (22, 1),
    ("list", 0, "more", 0, "c"): (24, 1),
    ("list", 0, "more", 1): (25, 1),
    ("list", 0, "more", 1, "c"): (26, 1),
    ("list", 1): (27, 1),
    ("list", 1, "a"): (28, 1),
    ("list", 1, "sub", "b"): (30, 1),
    ("list", 1, "more", 0, "c"): (32, 1),
}


@pytest.mark.parametrize("place", LINES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_where_a_place_stands(place: Place, newline: str) -> None:
    text = EVERYTHING.replace("\n", newline)
    at(tomllib.loads(text), place)
    assert locate(text, [place]) == {place: Position(*LINES[place])}


def test_all_at_once_are_where_each_is() -> None:
    wanted = [place for place in places(tomllib.loads(EVERYTHING)) if place]
    together = locate(EVERYTHING, wanted)
    assert together.keys() == {*wanted}
    assert all(locate(EVERYTHING, [place])[place] == position for place, position in together.items())
    assert {place: together[place] for place in LINES} == {place: Position(*line) for place, line in LINES.items()}


def test_what_is_missing_is_where_it_would_be() -> None:
    wanted: list[Place] = [("list", 1, "sub", "z"), ("fetch", "hosts", 7), ("nothing",), (), ("list", 9, "a")]
    assert locate(EVERYTHING, wanted) == {
        wanted[0]: Position(29, 1),
        wanted[1]: Position(3, 1),
        wanted[4]: Position(19, 3),
    }


WRONG = [
    "[",
    "[[a]",
    "a",
    "a =",
    "a = [1",
    "a = {b",
    "a = {b = 1",
    'a = "',
    'a = """',
    "a = '''",
    'a."b',
    "=",
    "\0",
    "a = }",
]


@pytest.mark.parametrize("wrong", [*WRONG, r'"\UFFFFFFFF" = 1'])
def test_behind_what_is_no_toml_nothing_has_a_line(wrong: str) -> None:
    text = f"x = 1\n{wrong}\ny = 2"
    with pytest.raises(ValueError, match=r"\(at |chr\(\)"):
        tomllib.loads(text)
    assert locate(text, [("x",), ("y",)]) == {("x",): Position(1, 1)}


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0\x7f"), max_size=6)
SCALARS = st.one_of(
    st.integers(-9, 99).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.sampled_from(["1.5", "-inf", "nan", "0xff", "2037-01-01", "2037-01-01 00:00:00Z", "'#]}'", '"""x\n[[y]]\n"""']),
    st.sampled_from(["'''z\n'''", "''", '""', '""""a""""', "''''b'''''", '"""\\\n  """', '"\\""']),
    st.text(st.characters(codec="utf-8"), max_size=8).map(
        lambda text: json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    ),
)
BLANK = st.sampled_from(["", " ", "\t", "\n", " # ]}\"'\n", "\r\n"])


def key(name: str, form: int) -> str:
    """A key in one of its forms."""
    if form and name.isascii() and name.replace("-", "a").replace("_", "a").isalnum():
        return name
    if form == 2 and name.isprintable() and "'" not in name:
        return f"'{name}'"
    if form == 1:
        return '"' + "".join(f"\\U{ord(character):08x}" for character in name) + '"'
    return json.dumps(name, ensure_ascii=False)


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """A value, with what may stand in it."""
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind == 1:
        parts = draw(st.lists(st.tuples(BLANK, values(depth - 1), BLANK), max_size=3))
        return "[" + ",".join("".join(part) for part in parts) + draw(BLANK) + "]"
    if kind == 2:
        names = draw(st.lists(NAMES, unique=True, max_size=3))
        return (
            "{" + ", ".join(f"{key(name, draw(st.integers(0, 2)))} = {draw(values(depth - 1))}" for name in names) + "}"
        )
    return draw(SCALARS)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Place, int]]:
    """A document of TOML, and the lines of the keys in it that are in no inline table."""
    lines: dict[Place, int] = {}
    text = draw(BLANK)
    tables = draw(st.lists(NAMES, unique=True, max_size=3))
    arrays = {name: 0 for name in tables if draw(st.booleans())}
    repeated = [each for each in tables for _ in range(draw(st.integers(1, 3)) if each in arrays else 1)]
    for name in [None, *repeated]:
        place: Place = ()
        if name is not None:
            place = (name, arrays[name]) if name in arrays else (name,)
            arrays = {**arrays, name: arrays[name] + 1} if name in arrays else arrays
            lines[place] = text.count("\n") + 1
            header = f" {key(name, draw(st.integers(0, 2)))}\t"
            text += f"[[{header}]]\n" if name in arrays else f"[{header}] # [x]\n"
        for each in draw(st.lists(NAMES, unique=True, max_size=4)):
            if name is None and each in tables:
                continue
            lines[*place, each] = text.count("\n") + 1
            text += f"{key(each, draw(st.integers(0, 2)))} = {draw(values())}\n{draw(BLANK)}\n"
    return text, lines


@given(documents())
def test_each_key_of_a_document_has_its_line(document: tuple[str, dict[Place, int]]) -> None:
    text, lines = document
    value: Any = tomllib.loads(text)
    found = locate(text, [*filter(None, places(value))])
    assert {place: found[place].line for place in lines} == lines
    assert found.keys() == {place for place in places(value) if place}


SNIPPETS = [
    '"',
    "'",
    '"""',
    "'''",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "\\",
    "#",
    "\n",
    "\r",
    "a",
    "1",
    " ",
    "\0",
    "ä",
]


@given(
    st.one_of(st.text(), st.lists(st.sampled_from(SNIPPETS)).map("".join)),
    st.sampled_from([("a",), ("a", 0), ("1", "a")]),
)
def test_no_text_is_too_odd(text: str, place: Place) -> None:
    for position in locate(text, [place, (), ("a", "a", "a")]).values():
        assert 1 <= position.line <= text.count("\n") + 1
        assert 1 <= position.column <= len(text) + 1


#: Beginnings and what is repeated behind them, each of which makes a careless walk look at all of the rest again.
LONG = {
    "strings that do not end": ("a = [", '"""",'),
    "escaped quotation marks": ('a = """', '\\"""'),
    "apostrophes": ("a = [", "'''',"),
    "nested arrays": ("a = ", "["),
    "nested tables": ("a = ", "{a="),
    "a key of many parts": ("", "a."),
    "quoted parts": ("", '"a".'),
    "tables": ("", "[a]\n"),
    "arrays of tables": ("", "[[a]]\n"),
    "values": ("a = [", "1,"),
    "values on one line that are wanted": ("b = 1\na = [", "1 ,"),
    "comments": ("", "#\n"),
    "comments in an array": ("a = [", "#\n"),
    "blanks": ("", " \t\r\n"),
    "keys": ("", "a = 1\n"),
}


class Counted(str):
    """A text that counts the characters that are looked at for lines."""

    __slots__ = ()
    looked = 0

    @override
    def count(self, *args: Any) -> int:
        _, begin, end = args
        Counted.looked += end - begin
        return super().count(*args)

    @override
    def rfind(self, *args: Any) -> int:
        _, begin, end = args
        Counted.looked += end - begin
        return super().rfind(*args)


def test_lines_are_counted_in_one_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Counted("a = [" + "1,\n" * 20_000 + "]")
    monkeypatch.setattr(Counted, "looked", 0)
    found = locate(text, [("a", index) for index in range(20_000)])
    assert found["a", 19_999] == Position(20_000, 1)
    assert 0 < Counted.looked <= 2 * len(text)


@pytest.mark.parametrize("case", LONG)
def test_a_walk_goes_on_and_never_back(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What doesn't match ends the walk, and patterns are possessive: the square of this length would time out."""
    starts, failed = [], []
    take = toml_positions._Walk._take

    def watched(walk: toml_positions._Walk, pattern: re.Pattern[str]) -> re.Match[str]:
        starts.append(walk._at)
        try:
            return take(walk, pattern)
        except ValueError:
            failed.append(walk._at)
            raise

    monkeypatch.setattr(toml_positions._Walk, "_take", watched)
    head, part = LONG[case]
    text = head + part * (2**18 // len(part))
    locate(text, [("a", 3), ("b",), ("a", "a", "a")])
    assert starts == sorted(starts)
    assert len(starts) <= 2 * len(text)
    assert len(failed) <= 1
