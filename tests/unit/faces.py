"""The faces of mvm's folders, and what each says that it has."""

import ast
from functools import cache

from tests.repository import ROOT

PACKAGES = sorted(
    str(path.parent.relative_to(ROOT)).replace("/", ".") for path in (ROOT / "mvmnix").rglob("__init__.py")
)
#: Those without one: the package itself, whose modules are rooms; the download worker, which sees no other folder.
WITHOUT = {"mvmnix", "mvmnix.builder.fetch.worker"}
FACES = [package for package in PACKAGES if package not in WITHOUT]


@cache
def names_of(package: str) -> list[str]:
    """What its stub, or its own text where it has none, says that it has."""
    folder = ROOT / package.replace(".", "/")
    stub = folder / "__init__.pyi"
    for node in ast.parse((stub if stub.exists() else folder / "__init__.py").read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return sorted(ast.literal_eval(value))
            case _:
                pass
    return []
