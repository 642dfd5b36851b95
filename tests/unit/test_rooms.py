"""What rooms hand out: nothing that is a module's own, and by `mvmnix.api` the public names that its stub lists."""

import ast
import importlib
import re
import subprocess
import sys

import pytest

from mvmnix import api
from tests.repository import ROOT
from tests.unit.rooms import imported, modules

STUB = ast.parse((ROOT / "mvmnix/api/__init__.pyi").read_text())
LISTED = {name: source for source, name in imported(STUB)}


def private(tree: ast.AST) -> list[str]:
    """What a text imports that is its module's own."""
    return [name for name in map(".".join, imported(tree)) if re.search(r"\._(?!_)", name)]


def test_no_module_imports_what_is_another_s_own() -> None:
    found = {module: private(tree) for module, tree in modules().items()}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from mvmnix.plan.plan import Plan", []),
        ("def f():\n    from mvmnix.plan.plan import _seal", ["mvmnix.plan.plan._seal"]),
        ("from mvmnix.launch._plan import Plan", ["mvmnix.launch._plan.Plan"]),
        ("from os import _exit", []),
    ],
)
def test_what_is_a_module_s_own(text: str, names: list[str]) -> None:
    assert private(ast.parse(text)) == names


def test_the_public_names_are_those_of_the_stub() -> None:
    assert dir(api) == sorted(LISTED)
    for name, source in LISTED.items():
        home = importlib.import_module(f"{source}.{name}" if source == "mvmnix.api" else source)
        assert getattr(api, name) is (home if source == "mvmnix.api" else getattr(home, name))
    with pytest.raises(AttributeError, match="no attribute 'House'"):
        _ = api.House  # type: ignore[attr-defined]


def test_the_stub_hands_on_all_that_it_imports() -> None:
    for line in STUB.body:
        assert isinstance(line, ast.ImportFrom)
        assert [it.name for it in line.names] == [it.asname for it in line.names]


@pytest.mark.parametrize(
    ("before", "loaded"),
    [("import mvmnix.api", []), ("from mvmnix.api import become_system_user", ["mvmnix.api.system_user"])],
)
def test_public_names_are_imported_when_they_are_used(before: str, loaded: list[str]) -> None:
    """A program of root's drops root's variables first, before a library that reads them is loaded: OPENSSL_CONF."""
    script = (
        f"import sys; {before}; print([it for it in sys.modules if it.startswith(('mvmnix.api.', 'cryptography'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"{loaded}\n"
