"""The options for how a result is printed: as a table, as JSON, as ids alone, or each entry by a template."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce, wraps
from typing import Any, Final, Self

import click

from mvmnix.cli.output import answer, json_option
from mvmnix.errors import UsageError
from mvmnix.formats.escaping import escape_line

_HINT: Final = "--format json, --format table, or a template such as '{{.id}} {{.name}}', with the fields of --json"
#: `.name`, `.labels.tier`, `.` for the whole entry; behind `json` as JSON.
_EXPRESSION: Final = re.compile(r"\s*(?P<json>json\s+)?\.(?P<path>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)?\s*")
#: Characters of a template.
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class _Field:
    """A place in an entry; the empty path is the whole entry."""

    path: tuple[str, ...]
    is_json: bool

    def render(self, entry: Mapping[str, object]) -> str:
        """Return its value, escaped and in one line; "" where this entry has none."""
        value: object = entry
        for name in self.path:
            value = next(iter(_members(value, name)), None)
        if self.is_json:
            return json.dumps(value, sort_keys=True)
        match value:
            case None:
                return ""
            case str() | int() | float() if not isinstance(value, bool):
                return escape_line(str(value))
            case list() if all(isinstance(each, str) for each in value):
                return escape_line(", ".join(value))
            case _:
                return json.dumps(value, sort_keys=True)


def _members(value: object, name: str) -> list[object]:
    """Return the members of this name, whatever its case, as `{{.ID}}` is written for podman; the exact one first."""
    if not isinstance(value, Mapping):
        return []
    exact = [value[name]] if name in value else []
    return [*exact, *(each for key, each in value.items() if str(key).lower() == name.lower())]


@dataclass(frozen=True, slots=True)
class Template:
    r"""A text with fields in double braces, as those of podman's --format; nothing in it is evaluated.

    >>> Template.parse(r"{{.ID}}\t{{ .labels.tier }}").render({"id": "3f", "labels": {"tier": "web"}})
    '3f\tweb'
    """

    parts: tuple[str | _Field, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        if len(text) > _LONGEST:
            raise ValueError(f"a template has at most {_LONGEST} characters")
        pieces = re.split(r"\{\{(.*?)\}\}", text)
        for literal in pieces[::2]:
            if "{{" in literal or "}}" in literal:
                raise ValueError(f"braces without their counterparts: {literal[:80]!r}")
        if len(pieces) == 1 or text.startswith("table "):
            raise ValueError(f"not json, table or a template with a field: {text[:80]!r}")
        literals = (each.replace("\\t", "\t").replace("\\n", "\n") for each in pieces[::2])
        fields = (_field(each) for each in pieces[1::2])
        first = next(literals)
        return cls((first, *(part for pair in zip(fields, literals, strict=True) for part in pair)))

    def refuse_unknown(self, entries: Sequence[Mapping[str, object]]) -> None:
        """Raises UsageError for a field that none of the entries has."""
        names = [part.path[0] for part in self.parts if isinstance(part, _Field) and part.path]
        for name in names:
            if entries and not any(_members(entry, name) for entry in entries):
                known = ", ".join(sorted({key for entry in entries for key in entry}))
                raise UsageError(f"there is no field {name!r}", hint=f"the fields are: {known}")

    def render(self, entry: Mapping[str, object]) -> str:
        """Return the text with the values of this entry."""
        return "".join(part if isinstance(part, str) else part.render(entry) for part in self.parts)


def _field(text: str) -> _Field:
    found = _EXPRESSION.fullmatch(text)
    if found is None or not (found["path"] or found["json"]):
        raise ValueError(f"not a field: {{{{{text[:80]}}}}}")
    return _Field(tuple((found["path"] or "").split(".")) if found["path"] else (), bool(found["json"]))


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How a result is printed; at most one of these. Raises UsageError for two of them."""

    is_json: bool = False
    is_quiet: bool = False
    template: Template | None = None

    def __post_init__(self) -> None:
        if self.is_json + self.is_quiet + (self.template is not None) > 1:
            raise UsageError("--json, --format and --quiet exclude each other", hint="give one of them")

    def show(
        self, kind: str, entries: Sequence[Mapping[str, object]], default: Callable[[], None], *, key: str = "id"
    ) -> None:
        """Print a list: in JSON's envelope of this kind, by the template a line for each entry, or as by `default`.

        With --quiet the values of the field `key` are printed, each once.
        """
        if self.is_json:
            answer(kind, entries)
        elif self.is_quiet:
            click.echo("".join(f"{each}\n" for each in dict.fromkeys(str(entry[key]) for entry in entries)), nl=False)
        elif not self._show_lines(entries):
            default()

    def show_one(self, kind: str, entry: Mapping[str, object], default: Callable[[], None]) -> None:
        """Print a single result likewise."""
        if self.is_json:
            answer(kind, entry)
        elif not self._show_lines([entry]):
            default()

    def _show_lines(self, entries: Sequence[Mapping[str, object]]) -> bool:
        """Return whether there is a template, and print by it."""
        if self.template is None:
            return False
        self.template.refuse_unknown(entries)
        for entry in entries:
            click.echo(self.template.render(entry))
        return True


def _parse(_context: click.Context, _option: click.Parameter, value: str | None) -> Template | str | None:
    try:
        return value if value in {None, "json", "table"} else Template.parse(str(value))
    except ValueError as error:
        raise UsageError(str(error), hint=_HINT) from error


_OPTIONS: Final = (
    click.option(
        "--format",
        "form",
        metavar="json|table|TEMPLATE",
        callback=_parse,
        help="How to print it; in a TEMPLATE, {{.FIELD}} is a field of --json.",
    ),
    json_option,
)


def format_options(*, ids: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --json and --format, and --quiet to a list of what has ids; the command is handed `output`, an OutputFormat.

    Raises UsageError for what is no template.
    """
    quiet = click.option("--quiet", "-q", "quiet", is_flag=True, help="Print ids alone.")

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def collected(*, form: Template | str | None, as_json: bool, quiet: bool = False, **others: Any) -> Any:
            template = form if isinstance(form, Template) else None
            return command(output=OutputFormat(as_json or form == "json", quiet, template), **others)

        options = (*((quiet,) if ids else ()), *_OPTIONS)
        return reduce(lambda made, option: option(made), reversed(options), collected)

    return add
