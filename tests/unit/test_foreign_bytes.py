"""Which modules read a stranger's bytes past the strict readers, each with its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_house import OURS, parsed

#: Readers of values without bounds of their own, by the name that a call ends in, and modules that are such.
CALLS = {"json.load", "json.loads", "JSONDecoder", "raw_decode", "literal_eval", "eval", "fromstring", "load_module"}
MODULES = {"configparser", "csv", "marshal", "pickle", "plistlib", "shelve", "tomllib", "xml", "yaml"}
#: What remains, and why no strict reader does it.
READERS = {
    "mvmnix/formats/strict.py: json.loads": "the strict reader itself: bytes, depth and values are bounded before",
    "mvmnix/formats/toml.py: tomllib": "the strict reader itself: bytes and the parts of a key are bounded before",
    "mvmnix/builder/fetch/worker/documents.py: json.loads": "bounded alike, in a sandbox that has no strict.py",
    "mvmnix/builder/pins/pip_settings.py: literal_eval": "a line of the user's own pip configuration, printed by pip",
    "mvmnix/provenance/bundle/envelope.py: JSONDecoder": "at most _QUICK bytes, which have to be the canonical ones",
    "mvmnix/provenance/bundle/envelope.py: raw_decode": "the same",
    "mvmnix/images/sbom.py: json.loads": "a document that a library made of our own values, a call before",
    "mvmnix/cli/commands/audit.py: json.loads": "a record of the audit log, whose bytes have matched its one spelling",
    "mvmnix/cli/commands/events.py: json.loads": "the same",
}


def readers(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if f"{module}.{name}" in CALLS:
                yield f"{module}.{name}"
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in CALLS:
                yield name
            case ast.Import(names=names):
                yield from (top for it in names if (top := it.name.partition(".")[0]) in MODULES)
            case ast.ImportFrom(module=str() as module, names=names):
                yield from {module.partition(".")[0]} & MODULES
                yield from (full for it in names if (full := f"{module}.{it.name}") in CALLS)
            case _:
                pass


def test_what_reads_values_is_the_strict_reader_or_has_a_reason() -> None:
    """A short text can take a hundred times its size in memory, or the square of it in time."""
    assert {f"{path}: {name}" for path in OURS for name in readers(path)} == READERS.keys()
