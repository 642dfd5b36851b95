"""The tool that mutates: each kind of mutation as it changes the text, and what a trial of one says."""

from pathlib import Path

import pytest

from tests.mutants.mutations import Kind, mutations
from tests.mutants.targets import TARGETS, covering, modules
from tests.mutants.trial import Outcome, Tree
from tests.repository import ROOT


def found(source: str, kind: Kind) -> set[str]:
    return {it.applied(source.encode()).decode() for it in mutations(source.encode()) if it.kind is kind}


@pytest.mark.parametrize(
    ("kind", "source", "mutated"),
    [
        (Kind.COMPARISON, "x = a < b", {"x = a <= b"}),
        (Kind.COMPARISON, "x = a >= b", {"x = a > b"}),
        (Kind.COMPARISON, "x = a == b != c", {"x = a != b != c", "x = a == b == c"}),
        (Kind.COMPARISON, "x = a not in b", {"x = a in b"}),
        (Kind.COMPARISON, "x = a is b", {"x = a is not b"}),
        (Kind.COMPARISON, 'x = "ü" in b', {'x = "ü" not in b'}),
        (Kind.CONDITION, "if a or b:\n    c", {"if (not (a or b)):\n    c"}),
        (Kind.CONDITION, "x = [i for i in a if b]", {"x = [i for i in a if (not (b))]"}),
        (Kind.CONDITION, "x = a if b else c", {"x = a if (not (b)) else c"}),
        (Kind.LOGIC, "x = a and b", {"x = a or b", "x = True and b", "x = a and True"}),
        (Kind.LOGIC, "x = a or b", {"x = a and b", "x = False or b", "x = a or False"}),
        (Kind.LOGIC, "x = not a", {"x = bool(a)"}),
        (Kind.BOUNDARY, "x = a[:16]", {"x = a[:(17)]", "x = a[:(15)]"}),
        (Kind.BOUNDARY, "x = True", set()),
        (Kind.BOUNDARY, "x: A[3] = 4", {"x: A[3] = (5)", "x: A[3] = (3)"}),
        (Kind.RAISE, "if a:\n    raise B(c)", {"if a:\n    pass"}),
        (Kind.RAISE, "raise B(\n    c,\n) from d", {"pass"}),
        (Kind.CALL, "must_be(a)\nb = c(d)", {"pass\nb = c(d)"}),
        (Kind.REASON, "reasons += [a]", {"pass"}),
        (Kind.REASON, "def f():\n    yield a", {"def f():\n    yield from ()"}),
        (Kind.REASON, "x = ReasonCode.FLAKE_DIRTY", {"x = ReasonCode.FLAKE_UNLOCKED"}),
        (Kind.RETURN, "def f():\n    return True", {"def f():\n    return False"}),
    ],
)
def test_a_mutation_is_a_small_change_of_the_text(kind: Kind, source: str, mutated: set[str]) -> None:
    assert found(source, kind) == mutated


@pytest.mark.parametrize(
    "source", ['"""Says 3 < 4."""', "x = f'{a < 3}'", "@a(3)\ndef f() -> B[4]: ...", "type A = B[3]"]
)
def test_text_and_types_are_left_alone(source: str) -> None:
    assert mutations(source.encode()) == []


def test_every_row_has_modules_and_every_module_tests() -> None:
    named = modules()
    for name, _ in TARGETS:
        assert [path for path in named if Path(*path.parts[1:]).is_relative_to(name)], name
    for module in named:
        given = covering(module)
        assert all((ROOT / path).exists() for path in given), given
        assert given[-1] == str(module)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A package of one function, with tests that know its bound and not its least value."""
    (tmp_path / "ruled.py").write_text("def small(n: int) -> bool:\n    return 0 <= n < 10\n")
    (tmp_path / "test_ruled.py").write_text(
        "from ruled import small\ndef test_it():\n    assert small(9) and not small(10) and not small(-5)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = vm\n")
    return Tree(tmp_path)


def test_what_tests_notice_is_caught_and_what_they_do_not_survives(tree: Tree) -> None:
    source = (tree.path / "ruled.py").read_bytes()
    outcomes = {
        it.applied(source).decode().splitlines()[1].strip(): tree.tried(Path("ruled.py"), it, ["test_ruled.py"])
        for it in mutations(source)
    }
    survived = {"return 0 < n < 10", "return (1) <= n < 10", "return (-1) <= n < 10"}
    assert {line for line, outcome in outcomes.items() if outcome is Outcome.SURVIVED} == survived
    caught = {"return 0 <= n <= 10", "return 0 <= n < (11)", "return 0 <= n < (9)"}
    assert {line for line, outcome in outcomes.items() if outcome is Outcome.CAUGHT} == caught
    assert (tree.path / "ruled.py").read_bytes() == source


def test_tests_that_fail_by_themselves_are_no_judges(tree: Tree) -> None:
    (tree.path / "test_ruled.py").write_text("def test_it():\n    assert False\n")
    mutation = mutations((tree.path / "ruled.py").read_bytes())[0]
    with pytest.raises(RuntimeError, match="without a mutation"):
        tree.tried(Path("ruled.py"), mutation, ["test_ruled.py"])


def test_a_copy_has_the_files_that_git_tracks(tmp_path: Path) -> None:
    copied = Tree.copied(tmp_path / "copy", {})
    assert (copied.path / "mvmnix/nar.py").read_bytes() == (ROOT / "mvmnix/nar.py").read_bytes()
    assert not (copied.path / ".venv").exists()


def test_a_test_that_does_not_end_is_ended(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it started: the processes are those of a PID namespace."""
    (tree.path / "ruled.py").write_text("def small(n: int) -> bool:\n    while n:\n        n -= 1\n    return True\n")
    (tree.path / "test_ruled.py").write_text("from ruled import small\ndef test_it():\n    assert small(3)\n")
    monkeypatch.setattr("tests.mutants.trial._LEAST", 10)
    monkeypatch.setattr("tests.mutants.trial._MULTIPLE", 0)
    source = (tree.path / "ruled.py").read_bytes()
    endless = next(it for it in mutations(source) if b"n -= (0)" in it.applied(source))
    assert tree.tried(Path("ruled.py"), endless, ["test_ruled.py"]) is Outcome.TOOK_TOO_LONG
