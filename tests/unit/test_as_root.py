"""The list of what runs as root too: what it names is there, and the marker for the rest has a reason."""

import ast
from pathlib import Path

import pytest

from tests.conftest import LISTED, TREE

TESTS = sorted((TREE / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("name", LISTED)
def test_what_is_listed_is_there(name: str) -> None:
    path = TREE / name
    assert path.is_relative_to(TREE / "tests")
    assert path.is_dir() or path.name.startswith("test_")


def test_nothing_is_listed_twice() -> None:
    paths = [Path(name) for name in LISTED]
    assert not [(one, other) for one in paths for other in paths if one is not other and one.is_relative_to(other)]


def test_no_test_decides_by_itself_whether_it_takes_root() -> None:
    """A skip isn't noticed; what is marked `root` has a command of its own, and a reason."""
    for path in TESTS:
        tree = ast.parse(path.read_text())
        reasons = {id(node.func): node.args for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Attribute(attr="mark"), attr="root"):
                    assert reasons.get(id(node)), f"{path.name}: say why it takes root"
                case ast.Call(func=ast.Attribute(attr="skipif" | "skip")):
                    assert "geteuid" not in ast.unparse(node), f"{path.name}: mark it root"
                case _:
                    pass
