"""The modules of mvm, and what a module imports of others."""

import ast
from collections.abc import Iterator
from functools import cache

from tests.repository import ROOT


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
