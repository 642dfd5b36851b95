"""Writes docs/sdk.md from the SDK's docstrings and examples/sdk: `python -m tests.unit.sdk_page`."""

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

PAGE: Final = ROOT / "docs/sdk.md"
EXAMPLES: Final = ROOT / "examples/sdk"
_WIDTH: Final = 100
_HEAD: Final = """\
# mvm from Python

```python
import mvmnix
from mvmnix import Sandbox

mvmnix.initialize()  # once for a user: makes keys, and a policy that trusts them
with Sandbox.run("./examples/python") as box:
    done = box.exec(["/usr/bin/python3", "-c", "print(6 * 7)"], timeout=30)
    print(done.stdout, done.exit_code)
```

`import mvmnix` imports nothing until a name is used
(`tests/unit/sdk/test_lifetime.py::test_importing_the_package_imports_nothing_else`). `mvmnix.aio`
has the same classes and functions, to be awaited; most tests of `tests/unit/sdk` run on both. A
machine runs under its own supervisor, as one of `mvm run` does, by the same plan, gate and log
([machines.md](machines.md)); the program is a caller like any other.

- **Life.** Leaving the `with` ends the machine. So does the end of the program, by any signal; a
  `fork` of it may call the machine, and ends nothing. `box.detach()` lets it go on. A cancelled
  task ends its command; a build that it waited for goes on, and its image is kept.
- **Time.** The first `run` of a flake builds its image, in silence and for minutes where much is to
  be built; `mvm build` shows how far it is, and what is built is there for programs, too. What a
  build prints is the newest file in `~/.local/state/mvmnix/logs` meanwhile. A machine whose
  `timeout` or `idle_timeout` is up ends, and what runs in it raises `TimedOut`.
- **Arguments** are checked before anything is sent, in each method
  (`tests/unit/sdk/test_arguments.py`): another type is a `TypeError` that names the argument, such
  as `argv[1]`; a value that isn't allowed is an `InvalidArgument`, which lists those that are.
- **What is there.** A guest has its image's programs and no others, found by its own `PATH`; `/tmp`
  and the directories of the image's `writable` can be written. A relative path begins at the plan's
  directory, which is `/` unless the image or `cwd=` says otherwise.
- **Nothing is hidden.** No thread, loop or signal handler stays behind: the blocking face waits
  in the thread that calls it, asyncio's on the loop that runs; what blocks is in that loop's
  executor.
- **Nothing is shared unasked**, be it a directory, a network, a variable or a secret. A command is
  a list; a `str` is a `TypeError` that shows the list. A secret is named by where it lies. What the
  command line refuses is refused here, with the same codes ([refusals.md](refusals.md)).
- **Verbs.** A plan grants exec, shell and copy as far as the image offers them, and none beside
  secrets: `verbs=["exec"]` grants it there
  ([0047](adr/0047-a-run-grants-verbs-unasked.md)). A call that isn't granted is refused before
  anything is sent.
- **Snapshots** (**Preview**, QEMU under TCG, [snapshots.md](snapshots.md)) take a plan that grants
  them, `verbs=["exec", "snapshot"]`, and an image that offers it: `box.snapshot()` keeps where the
  machine is, `box.cool()` ends it there, `Sandbox.restore(id)` goes on from it. `box.fork(3)`
  starts three others: each is a `Sandbox`, or the `Error` for which it didn't start.
- **Errors** are `mvmnix.Error`, with `reasons`: code, what, why, hint. Those that Python has a name
  for are also of that kind: `TimedOut` is a `TimeoutError`, `FileNotFound` a `FileNotFoundError`.
- **Root.** A process of root's calls `mvmnix.api.become_system_user()` first
  ([privileges.md](privileges.md)).

The application under both this and the command line is `mvmnix.api`; its names may change before
version 1.

## Programs

Each of these runs in the tests, in real machines, from an installed wheel
(`tests/vm/test_sdk.py`).
"""
_LIFETIME: Final = "tests/unit/sdk/test_lifetime.py"
_IMAGES: Final = "tests/unit/sdk/test_images.py"
_SAVED: Final = "tests/unit/sdk/test_snapshots.py"
_RUN: Final = "tests/vm/test_run.py"
#: The tests of what docstrings claim, by name: docs/claim-lint.md.
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


def page() -> str:
    """The page's text as of today."""
    parts = [_HEAD]
    parts += [_program(path) for path in sorted(EXAMPLES.glob("*.py"))]
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
        lines.append("Snapshots (Preview) are for QEMU under TCG ([snapshots.md](snapshots.md)).\n")
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


def main(path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(page())


if __name__ == "__main__":
    main()
