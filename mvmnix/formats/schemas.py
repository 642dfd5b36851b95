"""Publishes the schemas of documents, and finds by them all mistakes of a document that a strict reader refused.

The strict readers decide (strict.py); a schema explains. jsonschema is imported here alone, and only once a document
was refused: its import takes longer than most commands. The files are JSON Schema, draft 2020-12.

A time of TOML is in a schema a string of the format `date-time`, as editors have it. Here it is a `datetime`, so that
one in quotation marks is none.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mvmnix.errors import MOST_REASONS
from mvmnix.formats.strict import Place, Problem, parse_json
from mvmnix.suggestion import did_you_mean

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

#: The documents that have a schema, by its name.
NAMES: Final = ("claims", "config", "manifest", "preset", "revocations", "trust")
#: Mistakes that are looked for in a document, twice as many as a refusal has reasons; things expected at one place.
_MOST: Final = 2 * MOST_REASONS
_AT_ONE_PLACE: Final = 4
#: Characters of a value in a message.
_SHOWN: Final = 80
#: Types of JSON as people who write TOML call them.
_KINDS: Final = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "an integer",
    "object": "a table",
    "string": "a string",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """What a schema finds wrong at a place, and what it expects there, "" where it has no words for that.

    `same` are places at which a strict reader may have noted the same: fields one of which has to be there.
    """

    place: Place
    why: str
    expected: str
    same: frozenset[Place] = frozenset()


def read(name: str) -> bytes:
    """The bytes of a schema. Raises KeyError for a name that is none of NAMES."""
    if name not in NAMES:
        raise KeyError(name)
    return Path(__file__).with_name(f"{name}.schema.json").read_bytes()


def parsed(name: str) -> Mapping[str, Any]:
    """The same as JSON says it. Raises KeyError."""
    value: Any = parse_json(read(name))
    return dict(value)


def find_mistakes(name: str, value: Any) -> Sequence[Mistake]:
    """Find what is wrong with a document by its schema; `value` is as its parser made it.

    No more than `_MOST` are looked for. Raises KeyError.
    """
    found: dict[tuple[Place, frozenset[Place]], list[Mistake]] = {}
    mistakes = (mistake for error in validator(name).iter_errors(value) for mistake in _read_error(error))
    for mistake in islice(mistakes, _MOST):
        found.setdefault((mistake.place, mistake.same), []).append(mistake)
    return tuple(replace(alike[0], expected=_join_expectations(alike)) for alike in found.values())


def _join_expectations(mistakes: Iterable[Mistake]) -> str:
    """Return what is expected instead of several mistakes, each thing once."""
    return "; ".join([*dict.fromkeys(mistake.expected for mistake in mistakes if mistake.expected)][:_AT_ONE_PLACE])


def merge(problems: Sequence[Problem], mistakes: Sequence[Mistake]) -> Iterator[tuple[Place, str, str]]:
    """Yield place, what is wrong and what is expected, once for what a strict reader and a schema both found.

    A reader may say of an array or a table what the schema says of a value in it, and stop there. Its problem is left
    out then: what the schema finds within has lines of its own.
    """
    named: dict[Place, list[Mistake]] = {}
    for mistake in mistakes:
        for place in (mistake.place, *mistake.same):
            named.setdefault(place, []).append(mistake)
    places = {problem.place for problem in problems}
    others = [mistake for mistake in mistakes if places.isdisjoint((mistake.place, *mistake.same))]
    summaries = {place for mistake in others for place in _find_enclosing(mistake.place, places)}
    for problem in problems:
        if problem.place in named or problem.place not in summaries:
            yield problem.place, problem.text, _join_expectations(named.get(problem.place, ()))
    yield from ((mistake.place, mistake.why, mistake.expected) for mistake in others)


def _find_enclosing(place: Place, places: Container[Place]) -> Sequence[Place]:
    """Return the innermost of these places that is around another one; nothing where none is."""
    return [outer for steps in range(len(place) - 1, -1, -1) if (outer := place[:steps]) in places][:1]


def _read_error(error: "ValidationError") -> Iterator[Mistake]:
    """Turn an error into the mistakes that it is about: an object may lack several fields."""
    place: Place = tuple(error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "not":
        yield Mistake(place, "it doesn't belong here", "leave it out")
    elif error.validator == "additionalProperties":
        for unknown in (name for name in instance if name not in schema["properties"]):
            yield Mistake((*place, unknown), "unknown", _known(unknown, schema["properties"]))
    elif error.validator == "required":
        for missing in (name for name in wanted if name not in instance):
            described = _described(schema.get("properties", {}).get(missing, {})) or _described(schema)
            yield Mistake((*place, missing), "missing", described)
    elif error.validator in {"oneOf", "anyOf"} and isinstance(instance, dict):
        names = [name for branch in wanted for name in branch["required"]]
        yield Mistake(place, _compare_alternatives(names, instance), _described(schema), _field_places(place, names))
    elif error.validator == "minProperties":
        yield Mistake(place, "empty", _described(schema), _field_places(place, schema["properties"]))
    else:
        keyword = "time" if error.validator == "type" and "format" in schema else error.validator
        yield Mistake(place, _explain_value(keyword, wanted, instance), _described(schema))


def _field_places(place: Place, names: Iterable[str]) -> frozenset[Place]:
    return frozenset((*place, name) for name in names)


def _compare_alternatives(names: Sequence[str], instance: Mapping[str, object]) -> str:
    present = [name for name in names if name in instance]
    listed = f"{', '.join((present or names)[:-1])} and {(present or names)[-1]}"
    return f"{listed} exclude each other" if present else f"one of {listed} is missing"


def _explain_value(keyword: object, wanted: Any, instance: object) -> str:
    """Return what is wrong with a value that a keyword of JSON Schema doesn't let pass."""
    shown = repr(str(instance)[:_SHOWN])
    match keyword:
        case "enum":
            return f"{shown} is not one of {', '.join(wanted)}"
        case "const":
            return f"{shown} is not {wanted!r}"
        case "time":
            return f"not a time in UTC: {shown}"
        case "type":
            return f"not {_KINDS[wanted]}: {shown}"
        case "minItems" | "maxItems":
            return f"not an array of {wanted} values at {'least' if keyword == 'minItems' else 'most'}"
        case _:
            return f"not of the expected form: {shown}"


def _described(schema: Mapping[str, Any]) -> str:
    return f"expected {schema['description']}" if "description" in schema else ""


def _known(unknown: str, properties: Mapping[str, object]) -> str:
    return did_you_mean(unknown, properties).rstrip() or f"known here: {', '.join(sorted(properties))}"


def validator(name: str) -> "Validator":
    """What holds a document against a schema; times are `datetime`. Raises KeyError."""
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415 - slow, and seldom needed

    extend: Callable[..., Callable[[object], Validator]] = validators.extend
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    keywords = {"pattern": _pattern, "type": _type}
    return extend(Draft202012Validator, keywords, type_checker=types)(parsed(name))


def _pattern(_validator: "Validator", wanted: str, value: object, _schema: object) -> "Iterator[ValidationError]":
    """ECMA 262, which JSON Schema means: `$` is the end of the text, where Python's also stands before a newline."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", wanted), value):
        yield _error(f"{value[:80]!r} does not match {wanted!r}")


def _type(validator: "Validator", wanted: str, value: Any, schema: Mapping[str, Any]) -> "Iterator[ValidationError]":
    if schema.get("format") == "date-time":
        if not isinstance(value, datetime) or value.utcoffset() != timedelta(0) or value.microsecond:
            yield _error("not a time in UTC and whole seconds")
    elif not validator.is_type(value, wanted):
        yield _error(f"not of type {wanted}")


def _error(message: str) -> "ValidationError":
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - imported already

    return ValidationError(message)
