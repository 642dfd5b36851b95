"""What only root can test has a marker, and the marker has a reason."""

import ast

from tests.repository import ROOT

TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


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
