"""The reference of the SDK, from its docstrings and the programs in examples/sdk."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, is_typeddict

import mvmnix
from mvmnix import Secret
from mvmnix.sdk.commands import CommandOptions, ExecOptions
from mvmnix.sdk.preparation import SandboxOptions
from tests.repository import ROOT

EXAMPLES: Final = ROOT / "examples/sdk"
_WIDTH: Final = 100
_LIFETIME: Final = "tests/unit/sdk/test_lifetime.py"
_IMAGES: Final = "tests/unit/sdk/test_images.py"
_SAVED: Final = "tests/unit/sdk/test_snapshots.py"
_RUN: Final = "tests/vm/test_run.py"
#: The tests of what docstrings claim, by name: docs/reference/claim-lint.md.
_WITNESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "Image": (
        f"{_IMAGES}::test_an_image_is_found_exported_and_verified",
        "tests/unit/plan/test_plan.py::test_the_guest_of_a_template_is_told_nothing",
    ),
    "MachineInfo": (f"{_SAVED}::test_a_cooled_one_goes_on",),
    "Plan": (f"{_IMAGES}::test_a_plan_is_drafted_signed_and_launched",),
    "Pool": (
        "tests/unit/sdk/test_pools.py::test_a_pool_is_set_listed_claimed_and_removed",
        "tests/unit/launch/runtime/test_waiting.py::test_a_claim_ends_one_record_and_begins_another",
    ),
    "Sandbox": (
        _LIFETIME,
        "tests/unit/launch/gate/test_verify.py::test_an_unsigned_plan",
        f"{_RUN}::test_arguments_arrive_as_they_are_and_a_signal_is_an_exit_code_above_128",
    ),
    "SandboxOptions": (
        f"{_RUN}::test_the_workload_is_nobody_special_in_a_root_that_stays_as_it_is",
        "tests/unit/launch/runtime/test_start.py::test_the_plans_command_runs_and_all_of_it_is_written_down",
    ),
    "Secret": (
        "tests/unit/sdk/test_faces.py::test_a_secret_is_never_given",
        "tests/vm/test_secrets.py::test_the_guest_has_them_in_memory_and_the_host_nowhere",
    ),
    "Snapshot": (f"{_SAVED}::test_one_is_taken_listed_restored_and_removed",),
    "Unreachable": (f"{_LIFETIME}::test_a_supervisor_that_is_killed_is_unreachable",),
    "verify": (
        f"{_IMAGES}::test_files_are_verified",
        "tests/unit/cli/test_verify_artifacts.py::test_nothing_is_written_and_no_home_is_needed",
    ),
}
#: Entries that speak of snapshots.
_SNAPSHOTS = frozenset({"MachineInfo", "Sandbox", "SandboxOptions", "Snapshot"})


def text() -> str:
    """Return the programs and an entry for each public name, in Markdown."""
    parts = [_program(path) for path in sorted(EXAMPLES.glob("*.py"))]
    parts.append("## Reference\n")
    things = {name: getattr(mvmnix, name) for name in set(mvmnix.__all__) - {"aio"}}
    things |= {each.__name__: each for each in (SandboxOptions, CommandOptions, ExecOptions)}
    parts += [_entry(name, things[name]) for name in sorted(things)]
    return "\n".join(parts)


def _program(path: Path) -> str:
    return f"### {path.stem.replace('_', ' ').capitalize()}\n\n```python\n{path.read_text()}```\n"


def _entry(name: str, thing: object) -> str:
    lines = [f"### `{name}`\n\n{_wrapped(inspect.getdoc(thing) or '')}\n"]
    if isinstance(thing, type) and (thing.__module__.startswith("mvmnix.sdk.blocking") or thing is Secret):
        members = [each for each in vars(thing) if not each.startswith("_") and each != "to_plan"]
        lines += [_member(each, getattr(thing, each)) for each in members]
    elif isinstance(thing, type) and (is_dataclass(thing) or is_typeddict(thing)):
        lines += [_field(each, doc) for each, doc in _fields(thing).items()]
    if name in _SNAPSHOTS:
        lines.append("Snapshots (Preview) are for QEMU under TCG ([snapshots](snapshots.md)).\n")
    if tests := _WITNESSES.get(name, ()):
        word = "Witnesses" if len(tests) > 1 else "Witness"
        lines.append(_wrapped(f"{word}: {', '.join(f'`{test}`' for test in tests)}.") + "\n")
    return "\n".join(lines)


def _fields(kind: type) -> dict[str, str]:
    """Return the fields of a class, those of its bases first, each with the type and the docstring below it."""
    bases = [*reversed(kind.__mro__[1:]), *getattr(kind, "__orig_bases__", ())]
    found = {name: doc for base in bases if base.__module__ == kind.__module__ for name, doc in _fields(base).items()}
    (body,) = (each.body for each in ast.parse(inspect.getsource(kind)).body if isinstance(each, ast.ClassDef))
    for field, below in pairwise([*body, ast.Pass()]):
        match field, below:
            case ast.AnnAssign(ast.Name(name), kind_), ast.Expr(ast.Constant(str(said))):
                found[name] = f"{ast.unparse(kind_)}\0{said}"
            case ast.AnnAssign(ast.Name(name), kind_), _:
                found[name] = f"{ast.unparse(kind_)}\0"
            case _:
                pass
    return found


def _field(name: str, doc: str) -> str:
    kind, _, said = doc.partition("\0")
    words = f" {said}" if said else ""
    return _wrapped(f"- `{name}: {kind}`{words}", "  ") + "\n"


def _member(name: str, value: Any) -> str:
    doc = inspect.getdoc(value) or ""
    if not isinstance(value, property):
        given = [each for each in inspect.signature(value).parameters.values() if each.name not in {"self", "cls"}]
        plain = [each.replace(annotation=each.empty) for each in given]
        name += str(inspect.Signature(plain))
    return _wrapped(f"- `{name}`: {doc}", "  ") + "\n"


def _wrapped(doc: str, indent: str = "") -> str:
    """Paragraphs of prose, wrapped; sections of arguments as they stand, as code."""
    found = []
    for part in doc.split("\n\n"):
        if part.startswith(("Args:", "Raises:", "Returns:")):
            found.append(textwrap.indent(f"```text\n{part}\n```", indent))
            continue
        first = "" if part.startswith("- ") else indent
        text = " ".join(part.split())
        lines = textwrap.wrap(
            text, _WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        found.append("\n".join(lines))
    return "\n\n".join(found)
