"""Reads the bytes of a TOML file that people wrote, of a bounded size; strict.py reads what stands in it.

What a strict reader refused is looked at a second time (docs/adr/0048): by its schema, which finds what the reader
didn't come to, and by toml_positions.py, which finds the lines.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, override

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.formats.strict import MalformedError, Place, Problem, Record, show_place

if TYPE_CHECKING:
    from mvmnix.formats.toml_positions import Position

#: Larger documents are refused without a look at their schema, in bytes: jsonschema looks at all of them.
_EXPLAINED: Final = 2**16
#: A dotted key of more parts than strict.py has levels: tomllib takes time with the square of their number. It is
#: looked for in strings too, since only a parser knows where these end. Possessive, so that one walk finds it.
_DEEP_KEY: Final = re.compile(
    rb"""(?:((?<![\w-])[\w-]++|(?<!\\)"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % strict.MAX_DEPTH
)
#: How tomllib's messages end.
_AT: Final = re.compile(r" \(at (?:line ([0-9]{1,9}), column ([0-9]{1,9})|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a document, where, and what is expected instead; "" and None for what is not known."""

    why: str
    expected: str = ""
    position: "Position | None" = None

    def reason(self, code: ReasonCode, path: str, hint: str) -> Reason:
        """Return the reason to refuse the file at a path; as with compilers, it begins with PATH:LINE:COLUMN."""
        what = f"{path}:{self.position.line}:{self.position.column}" if self.position else path
        return Reason(code, what, self.why, f"{self.expected}; {hint}" if self.expected else hint)


class DocumentError(MalformedError):
    """A document is malformed; carries all that was found, in the order of its lines."""

    def __init__(self, error: MalformedError, findings: Sequence[Finding]) -> None:
        super().__init__(*error.found)
        self._findings = findings

    @override
    def refused(self, code: ReasonCode, what: str, hint: str) -> RefusedError:
        """Return a refusal with one reason for each finding; `what` is the file's path."""
        return RefusedError(*(finding.reason(code, what, hint) for finding in self._findings))


def parse(data: bytes, *, limit: int) -> object:
    """TOML 1.0 in UTF-8, `limit` bytes of it at most. Raises MalformedError."""
    if len(data) > limit:
        raise MalformedError(f"larger than {limit} bytes")
    if _DEEP_KEY.search(data):
        raise MalformedError(f"a key of more than {strict.MAX_DEPTH} parts")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not TOML in UTF-8: {error}") from error


def read[T](data: bytes, name: str, parse_record: Callable[[Record], T], *, schema: str, limit: int) -> T:
    """Read a document with `parse_record`; `name` is what people call it, `schema` one of schemas.NAMES.

    Raises DocumentError with all that the reader and the schema find, and with lines.
    """
    try:
        value = parse(data, limit=limit)
    except MalformedError as error:
        raise DocumentError(error, [_find_syntax_error(error, data)]) from error
    try:
        return strict.read(value, name, parse_record)
    except MalformedError as error:
        raise DocumentError(error, _collect(error, data, value, schema)) from error


def _find_syntax_error(error: MalformedError, data: bytes) -> Finding:
    """Return what is wrong with bytes that are no TOML, where tomllib or the decoder stopped."""
    from mvmnix.formats.toml_positions import Position  # noqa: PLC0415 - for refused documents only

    text = str(error)
    if isinstance(cause := error.__cause__, UnicodeDecodeError):
        before = data[: cause.start].decode()
        return Finding(text, position=Position.of(before, len(before)))
    if (at := _AT.search(text)) is None:
        return Finding(text)
    position = Position(int(at[1]), int(at[2])) if at[1] else Position.of(data.decode(), len(data.decode()))
    return Finding(text[: at.start()], position=position)


def _collect(error: MalformedError, data: bytes, value: object, schema: str) -> Sequence[Finding]:
    """Return what the reader and the schema found, each thing once, in the order of lines."""
    from mvmnix.formats.schemas import find_mistakes, merge  # noqa: PLC0415 - for refused documents only
    from mvmnix.formats.toml_positions import Position, locate  # noqa: PLC0415

    mistakes = find_mistakes(schema, value) if len(data) <= _EXPLAINED else ()
    problems = [each if isinstance(each, Problem) else Problem("", (), each) for each in error.found]
    found = [*merge(problems, mistakes)]
    positions = locate(data.decode(), {place for place, _, _ in found})
    first = Position(0, 0)
    return [
        Finding(_describe(place, why, value, positions), expected, positions.get(place))
        for place, why, expected in sorted(found, key=lambda finding: positions.get(finding[0], first))
    ]


def _describe(place: Place, why: str, value: object, positions: "Mapping[Place, Position]") -> str:
    """Return what is wrong, behind the place as people write it in TOML: `[fetch] hosts[0]`.

    A table of several is known by its line, if there is one. Names of keys are as they are in the text; whatever prints
    them escapes them.
    """
    match place:
        case (str(name), int(index), *rest) if place in positions and _is_table(value, name, index):
            header, within = f"[[{name}]]", tuple(rest)
        case (str(name), *rest) if rest and _is_table(value, name):
            header, within = f"[{name}]", tuple(rest)
        case _:
            header, within = "", place
    shown = " ".join(filter(None, (header, show_place(within))))
    return f"{shown}: {why}" if shown else why


def _is_table(value: Any, *steps: str | int) -> bool:
    """Return whether a table is there; all steps but the last lead to something."""
    for step in steps:
        value = value[step]
    return isinstance(value, dict)
