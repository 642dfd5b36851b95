"""The rooms of mvm, and what others import of each."""

import ast
from collections.abc import Iterator
from functools import cache

from tests.repository import ROOT

ROOMS = sorted(
    str(path.parent.relative_to(ROOT)).replace("/", ".")
    for path in (ROOT / "mvmnix").rglob("__init__.py")
    if path.parent.name != "mvmnix"
)
_STUB = ast.parse((ROOT / "mvmnix/api/__init__.pyi").read_text())


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "mvmnix").rglob("*.py")):
        name = str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


@cache
def modules() -> dict[str, ast.Module]:
    """Each module by its name."""
    return dict(_modules())


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Modules of mvm's that a text imports names from, with each name."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(source)) if source.partition(".")[0] == "mvmnix":
                yield from ((source, it.name) for it in node.names)
            case _:
                pass


@cache
def _imports() -> dict[str, frozenset[tuple[str, str]]]:
    """By module, what `imported` finds in it, and of `mvmnix.api` in its stub."""
    trees = (*modules().items(), ("mvmnix.api", _STUB))
    return {module: frozenset(imported(tree)) for module, tree in trees}


@cache
def names_of(room: str) -> list[tuple[str, str]]:
    """What modules of other rooms import of it, and what `mvmnix.api` hands on: module and name."""
    taken = {
        (source, name)
        for module, names in _imports().items()
        if not f"{module}.".startswith(f"{room}.") or module == "mvmnix.api"
        for source, name in names
        if (source if source in ROOMS else source.rpartition(".")[0]) == room and f"{source}.{name}" not in modules()
    }
    return sorted(taken, key=lambda it: (it[1], it[0]))
