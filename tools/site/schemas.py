"""The keys of each document that people write, as tables, from its JSON Schema."""

from collections.abc import Iterator, Mapping
from typing import Any

from mvmnix.formats import schemas


def text() -> str:
    """Return a section for each document, in Markdown."""
    return "\n".join(map(_section, schemas.NAMES))


def _section(name: str) -> str:
    schema = schemas.parsed(name)
    rows = "".join(f"| `{key}` | {kind} | {meaning} |\n" for key, kind, meaning in _keys(schema, schema, ""))
    return f"## {schema['title'].replace('|', '/')}\n\n| key | type | meaning |\n| --- | --- | --- |\n{rows}"


def _keys(schema: Mapping[str, Any], whole: Mapping[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    """Walk an object's members: name, type and meaning of each, then those of the objects in it."""
    for name, found in schema.get("properties", {}).items():
        member = _resolved(found, whole)
        kind = member.get("type", "")
        inner = _resolved(member.get("items", {}), whole) if kind == "array" else member
        key = f"{above}{name}"
        meaning = str(found.get("description", member.get("description", ""))).replace("|", "\\|")
        required = ", required" if name in schema.get("required", ()) else ""
        yield key, f"{kind}{required}", meaning
        yield from _keys(inner, whole, f"{key}[]." if kind == "array" else f"{key}.")


def _resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = whole
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return {**found, **schema}
