"""Publishes the schemas of documents, and says by them what was expected where a strict reader refused something.

The strict readers decide (strict.py); a schema explains. jsonschema is imported here alone, and only once a document
was refused: its import takes longer than most commands. The files are JSON Schema, draft 2020-12.

A time of TOML is in a schema a string of the format `date-time`, as editors have it. Here it is a `datetime`, so that
one in quotation marks is none.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mvmnix.formats.strict import parse_json
from mvmnix.suggestion import did_you_mean

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

#: The documents that have a schema, by its name.
NAMES: Final = ("config", "manifest", "preset", "revocations", "trust")
#: So many things are said of a document, and of one place in it.
_MOST: Final = 64
_AT_ONE_PLACE: Final = 4


def read(name: str) -> bytes:
    """The bytes of a schema. Raises KeyError for a name that is none of NAMES."""
    if name not in NAMES:
        raise KeyError(name)
    return Path(__file__).with_name(f"{name}.schema.json").read_bytes()


def parsed(name: str) -> Mapping[str, Any]:
    """The same as JSON says it. Raises KeyError."""
    value: Any = parse_json(read(name))
    return dict(value)


def explain(name: str, value: Any, where: str, problems: Iterable[str]) -> Mapping[str, str]:
    """What the schema expects, for those of a strict reader's problems about whose place it says something.

    `value` is the document as its parser returned it, `where` how the reader calls it: a problem begins with a place,
    such as `config.toml.fetch.hosts: `.
    """
    errors = validator(name).iter_errors(value)
    said = ((f"{where}{place}", text) for error in errors for place, text in _expectations(error) if text)
    expected = [*islice(said, _MOST)]
    places = {problem: problem.partition(": ")[0] for problem in problems}
    others = {*places.values()}
    explained = {problem: _at(place, expected, others) for problem, place in places.items()}
    return {problem: text for problem, text in explained.items() if text}


def _at(place: str, expected: Sequence[tuple[str, str]], others: AbstractSet[str]) -> str:
    """What is expected at a place, and within it where no other problem is: a reader may stop at the first there."""
    here = (text for at, text in expected if at == place)
    within = (
        f"{at}: {text}" for at, text in expected if at.startswith((f"{place}.", f"{place}[")) and at not in others
    )
    return "; ".join([*dict.fromkeys((*here, *within))][:_AT_ONE_PLACE])


def _expectations(error: "ValidationError") -> Iterator[tuple[str, str]]:
    """The places that an error is about, and what the schema says of each; "" where it says nothing."""
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    if schema is False:
        yield place, "leave it out here"
    elif error.validator == "additionalProperties":
        for unknown in sorted(instance.keys() - schema["properties"].keys()):
            yield f"{place}.{unknown}", _known(unknown, schema["properties"])
    elif error.validator == "required":
        for missing in sorted(set(schema["required"]) - instance.keys()):
            yield f"{place}.{missing}", _described(schema.get("properties", {}).get(missing, {})) or _described(schema)
    else:
        yield place, _described(schema)


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
