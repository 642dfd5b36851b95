"""Reads the bytes of a TOML file that people wrote, of a bounded size; strict.py reads what stands in it."""

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Final, override

from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.formats.strict import MalformedError, Record

#: Larger documents are refused without an explanation by a schema, which looks at all of them, in bytes.
_EXPLAINED: Final = 2**16
#: A dotted key of more parts than strict.py has levels: tomllib takes time with the square of their number. It is
#: looked for in strings too, since only a parser knows where these end. Possessive, so that one walk finds it.
_DEEP_KEY: Final = re.compile(
    rb"""(?:((?<![\w-])[\w-]++|(?<!\\)"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % strict.MAX_DEPTH
)


class ExplainedError(MalformedError):
    """The same, with what a schema expects instead, by problem."""

    def __init__(self, error: MalformedError, expected: Mapping[str, str]) -> None:
        super().__init__(*error.problems)
        self._expected = expected

    @override
    def refused(self, code: ReasonCode, what: str, hint: str) -> RefusedError:
        """What to do next begins with what is expected."""
        hints = {problem: f"{expected}; {hint}" for problem, expected in self._expected.items()}
        return RefusedError(*(Reason(code, what, problem, hints.get(problem, hint)) for problem in self.problems))


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

    Raises MalformedError with all problems, and with what the schema says of them.
    """
    value = parse(data, limit=limit)
    try:
        return strict.read(value, name, parse_record)
    except MalformedError as error:
        if len(data) > _EXPLAINED:
            raise
        from mvmnix.formats import schemas  # noqa: PLC0415 - for refused documents only

        raise ExplainedError(error, schemas.explain(schema, value, name, error.problems)) from error
