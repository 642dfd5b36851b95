"""What the strict reader takes, and that it names every problem."""

import json
from collections.abc import Callable, Sized
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict
from mvmnix.formats.strict import MalformedError, Record


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"a":1,"a":1}', "is listed twice"),
        (b'{"b":{"a":1,"a":1}}', "is listed twice"),
        (b'{"\\u0061":1,"a":1}', "is listed twice"),
        (b"1.0", "not an integer"),
        (b"1e3", "not an integer"),
        (b"NaN", "not an integer"),
        (b"-Infinity", "not an integer"),
        (b"9007199254740992", "too large"),
        (b"-9007199254740992", "too large"),
        (b"1" * 5000, "too large"),
        (b'"\\ud800"', "not JSON"),
        (b'{"\\ud800":1}', "not JSON"),
        (b'[{"a":["\\ud83d\\ude00\\uDfFf"]}]', "not JSON"),
        (b"\xff", "not JSON"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b"", "not JSON"),
        (b"1 1", "not JSON"),
        (b"[" * 40 + b"]" * 40, "deeper"),
        (b"[" * 33 + b"]" * 33, "deeper"),
        (b"[" * 100_000, "not JSON"),
        (b"[" * 5_000 + b"]" * 5_000, "deeper|not JSON"),
    ],
)
def test_what_is_no_json_here(text: bytes, problem: str) -> None:
    with pytest.raises(MalformedError, match=problem):
        strict.parse_json(text)


@given(st.lists(st.booleans(), max_size=40), st.text('[]{}\\"\n'))
def test_how_deep_it_goes(kinds: list[bool], text: str) -> None:
    """Brackets in strings are none, whatever stands before the quotes around them."""
    value: object = text
    for is_list in kinds:
        value = [text, value] if is_list else {text: text, f"{text}.": value}
    data = json.dumps(value).encode()
    if len(kinds) <= strict.MAX_DEPTH:
        assert strict.parse_json(data) == value
    else:
        with pytest.raises(MalformedError, match="deeper"):
            strict.parse_json(data)


@pytest.mark.parametrize(("squares", "braces"), [(32, 0), (0, 32), (16, 16), (17, 15), (15, 17)])
@pytest.mark.parametrize("inner", ["", "{", "["])
def test_brackets_of_either_kind_count(squares: int, braces: int, inner: str) -> None:
    """And neither alone is enough to tell: a text has all its levels of one kind, or half of each."""
    kinds = [*["["] * squares, *["{"] * braces, *inner]
    value: object = 1
    for kind in reversed(kinds):
        value = [value] if kind == "[" else {"a": value}
    data = json.dumps(value).encode()
    if len(kinds) == 32:
        assert strict.parse_json(data) == value
    else:
        with pytest.raises(MalformedError, match="deeper than 32"):
            strict.parse_json(data)


@pytest.mark.parametrize("text", [r'"\ud83d\ude00"', r'"\\ud800"', r'["\"", "\\", {"a\\\"": []}]'])
def test_escapes_that_are_well(text: str) -> None:
    assert strict.parse_json(text.encode()) == json.loads(text)


def test_largest_and_smallest_integer() -> None:
    """RFC 8259, section 6."""
    assert strict.parse_json(b"[9007199254740991,-9007199254740991]") == [2**53 - 1, -(2**53) + 1]


def test_only_the_keys_that_stand_there_twice_are_named() -> None:
    with pytest.raises(MalformedError) as caught:
        strict.parse_json(b'{"b":1,"a":2,"b":3}')
    assert caught.value.problems == ("the key 'b' is listed twice",)


def test_a_limit_comes_before_the_parser() -> None:
    assert strict.parse_json(b"  1", limit=3) == 1
    with pytest.raises(MalformedError, match="larger than 3 bytes"):
        strict.parse_json(b"    ", limit=3)
    assert strict.parse_json(b"1".rjust(16 << 20)) == 1
    with pytest.raises(MalformedError, match="larger than 16777216 bytes"):
        strict.parse_json(b"1".rjust((16 << 20) + 1))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\u00e9\n", max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_canonical_bytes_come_back_as_they_are(value: object) -> None:
    data = strict.canonical(value)
    assert data.isascii()
    assert strict.parse_json(data) == value
    assert strict.canonical(strict.parse_json(data)) == data


def test_canonical_form() -> None:
    assert strict.canonical({"b": [1, "é"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'


def test_times() -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert strict.show_time(moment) == "2026-01-31T10:00:00Z"
    assert strict.parse_time("2026-01-31T10:00:00Z") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    for text in (
        "2026-01-31T10:00:00",
        "2026-01-31T10:00:00+00:00",
        "2026-02-30T10:00:00Z",
        "\uff12026-01-31T10:00:00Z",
    ):
        with pytest.raises(ValueError, match=r"day|time"):
            strict.parse_time(text)


def everything(record: Record) -> tuple[object, ...]:
    return (
        record.text("text", "[a-z]+"),
        record.integer("integer", 1, 9),
        record.flag("flag"),
        record.digest("digest"),
        record.time("time"),
        record.choice("choice", Colour),
        record.texts("texts", "[a-z]"),
        record.integers("integers", 0, 9),
        record.child("child", lambda child: child.text("x")),
        record.each("each", lambda item: item.integer("n", 0, 9)),
        record.value("value"),
    )


GOOD: dict[str, object] = {
    "text": "abc",
    "integer": 9,
    "flag": True,
    "digest": "a" * 64,
    "time": "2026-01-31T10:00:00Z",
    "choice": "blue",
    "texts": ["a", "b"],
    "integers": [0, 9],
    "child": {"x": "y"},
    "each": [{"n": 1}, {"n": 2}],
    "value": None,
}


def test_reading() -> None:
    moment = datetime(2026, 1, 31, 10, tzinfo=UTC)
    expected = ("abc", 9, True, Digest("a" * 64), moment, Colour.BLUE, ("a", "b"), (0, 9), "y", (1, 2), None)
    assert strict.read(GOOD, "it", everything) == expected


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(MalformedError) as caught:
        strict.read({key: value for key, value in GOOD.items() if key != name}, "it", everything)
    assert caught.value.problems[0] == f"it.{name}: missing"


@pytest.mark.parametrize("name", [name for name in GOOD if name != "value"])
@pytest.mark.parametrize(
    "value",
    [None, 10, -1, 1.5, "", "A", "a\n", [None], [10], [True], ["A"], ["b", "bb"], {"y": 1}, {}, "a" * 70_000],
)
def test_what_is_wrong_is_named(name: str, value: object) -> None:
    with pytest.raises(MalformedError) as caught:
        strict.read(GOOD | {name: value}, "it", everything)
    assert all(problem.startswith(f"it.{name}") for problem in caught.value.problems)


def test_bounds_of_an_integer() -> None:
    for number in (1, 9):
        assert strict.read({"n": number}, "it", lambda record: record.integer("n", 1, 9)) == number
        assert strict.read({"n": [number]}, "it", lambda record: record.integers("n", 1, 9)) == (number,)
    for number in (0, 10):
        with pytest.raises(MalformedError, match=r"it\.n: not an integer from 1 to 9"):
            strict.read({"n": number}, "it", lambda record: record.integer("n", 1, 9))
        with pytest.raises(MalformedError, match=r"it\.n: not an array of integers from 1 to 9"):
            strict.read({"n": [number]}, "it", lambda record: record.integers("n", 1, 9))


@pytest.mark.parametrize(
    ("read", "one"),
    [
        (lambda record: record.text("it"), "a"),
        (lambda record: record.parsed("it", str, ""), "a"),
        (lambda record: record.array("it"), [1]),
        (lambda record: record.texts("it"), ["a"]),
        (lambda record: record.integers("it", 0, 9), [1]),
        (lambda record: record.each("it", lambda item: item.has("n")), [{}]),
    ],
)
def test_how_long_a_text_or_an_array_may_be(read: Callable[[Record], Sized], one: str | list[object]) -> None:
    assert len(strict.read({"it": one * 65_536}, "it", read)) == 65_536
    with pytest.raises(MalformedError, match=r"it\.it: not"):
        strict.read({"it": one * 65_537}, "it", read)


def test_a_truth_value_is_no_number() -> None:
    for name, value in (("integer", True), ("flag", 1), ("integers", [True])):
        with pytest.raises(MalformedError, match=name):
            strict.read(GOOD | {name: value}, "it", everything)


def test_all_problems_at_once_the_unknown_ones_too() -> None:
    wrong = GOOD | {"text": 1, "integer": 0, "each": [{"n": 1, "m": 1}, {}, 7], "more": 1, "other": 2}
    with pytest.raises(MalformedError) as caught:
        strict.read(wrong, "it", everything)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "it.text",
        "it.integer",
        "it.each[0].m",
        "it.each[1].n",
        "it.each[2]",
        "it.more",
        "it.other",
    ]


def test_what_others_may_add() -> None:
    def parse(record: Record) -> tuple[str, ...]:
        record.leave_rest()
        return record.names()

    assert strict.read({"a": 1, "b": []}, "it", parse) == ("a", "b")
    with pytest.raises(MalformedError, match=r"it\.b: unknown"):
        strict.read({"a": 1, "b": []}, "it", lambda record: record.value("a"))


def test_a_constructor_that_refuses() -> None:
    def parse(record: Record) -> object:
        record.text("text")
        raise ValueError("no such thing")

    with pytest.raises(MalformedError, match="it: no such thing"):
        strict.read({"text": 1}, "it", parse)


def test_a_refusal_has_each_problem_as_a_reason() -> None:
    assert str(MalformedError("a", "b")) == "a; b"
    refused = MalformedError("a", "b").refused(ReasonCode.PLAN_MALFORMED, "the plan", "do")
    assert refused.codes == (ReasonCode.PLAN_MALFORMED, ReasonCode.PLAN_MALFORMED)
    assert [reason.why for reason in refused.reasons] == ["a", "b"]


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_what_is_no_object(value: object) -> None:
    with pytest.raises(MalformedError, match="it: not an object"):
        strict.read(value, "it", everything)


def test_a_field_that_was_asked_for_is_known() -> None:
    """Whether or not it is read: where it stands beside another one, that may be all there is to ask."""
    assert strict.read({"a": 1}, "it", lambda it: it.has("a"))
    assert not strict.read({}, "it", lambda it: it.has("a"))
    with pytest.raises(MalformedError, match=r"it\.a"):
        strict.read({"a": 1}, "it", lambda it: it.has("b"))


def test_how_many_values_there_may_be() -> None:
    """Each has a comma or bracket before it; small ones take a hundred times the memory of their text."""
    most = b"[" + b"0," * (strict.MAX_VALUES - 1) + b"0]"
    assert strict.parse_json(most)
    for more in (most.replace(b"[", b"[0,", 1), b"[" * (strict.MAX_VALUES + 1), b'{"a":' * (strict.MAX_VALUES + 1)):
        with pytest.raises(MalformedError, match="more than 1048576 values"):
            strict.parse_json(more)


def test_a_problem_has_its_place() -> None:
    def inner(record: Record) -> int:
        record.note("noted", "x", 1)
        return record.integer("n", 0, 1)

    def parse(record: Record) -> object:
        record.note("of all of it")
        return record.each("list", inner), record.child("one", inner)

    with pytest.raises(MalformedError) as caught:
        strict.read({"list": [{"n": 1}, {"n": 2}, 3], "one": {"m": 1}}, "it", parse)
    told = [(problem.place, str(problem)) for problem in caught.value.found if isinstance(problem, strict.Problem)]
    assert told == [
        ((), "it: of all of it"),
        (("list", 0, "x", 1), "it.list[0].x[1]: noted"),
        (("list", 1, "x", 1), "it.list[1].x[1]: noted"),
        (("list", 1, "n"), "it.list[1].n: not an integer from 0 to 1: '2'"),
        (("list", 2), "it.list[2]: not an object"),
        (("one", "x", 1), "it.one.x[1]: noted"),
        (("one", "n"), "it.one.n: missing"),
        (("one", "m"), "it.one.m: unknown"),
    ]
    assert caught.value.problems == tuple(text for _, text in told)


def test_what_no_two_may_have_in_common() -> None:
    def parse(record: Record) -> object:
        distinct: dict[str, Callable[[int], int | None]] = {
            "two have the same remainder": lambda number: number % 10,
            "two are the same": lambda number: number or None,
        }
        return record.each("list", lambda each: each.integer("n", 0, 99), distinct=distinct)

    assert strict.read({"list": [{"n": n} for n in (1, 12, 23)]}, "it", parse) == (1, 12, 23)
    with pytest.raises(MalformedError) as caught:
        strict.read({"list": [{"n": n} for n in (1, 0, 1, 10, -1, -1, 21, 0)]}, "it", parse)
    assert [text for text in caught.value.problems if "two" in text] == [
        "it.list[2]: two are the same",
        "it.list[2]: two have the same remainder",
        "it.list[3]: two have the same remainder",
        "it.list[6]: two have the same remainder",
        "it.list[7]: two have the same remainder",
    ]


@pytest.mark.parametrize("texts", [[], ["a", "b", "c"], "a", ["a", 1]])
def test_how_short_an_array_may_be(texts: object) -> None:
    def parse(record: Record) -> tuple[str, ...]:
        return record.texts("a", "[a-z]", 2, least=1)

    assert strict.read({"a": ["a"]}, "it", parse) == ("a",)
    with pytest.raises(MalformedError, match=r"it\.a: not an array of (1 to 2 values|strings)"):
        strict.read({"a": texts}, "it", parse)


@pytest.mark.parametrize("value", [1, "x", None, []])
def test_what_is_wrong_with_a_field_is_told_once(value: object) -> None:
    for read in (lambda record: record.digest("a"), lambda record: record.choice("a", Colour)):
        with pytest.raises(MalformedError) as caught:
            strict.read({"a": value}, "it", read)
        assert len(caught.value.problems) == 1


def test_a_choice_is_told_with_what_there_is() -> None:
    with pytest.raises(MalformedError, match=r"it\.a: 'green' is not one of red, blue"):
        strict.read({"a": "green"}, "it", lambda record: record.choice("a", Colour))
