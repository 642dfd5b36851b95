"""The tool that mutates: each kind of mutation as it changes the text, the tests it needs, and what a trial says."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.patience import scaled
from tests.repository import ROOT
from tools.mutants.__main__ import Progress
from tools.mutants.mutations import Kind, Mutation, mutations
from tools.mutants.recording import Recording
from tools.mutants.targets import TARGETS, UNSEEN, covering, modules
from tools.mutants.trial import Outcome, Tree


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
        (Kind.CONDITION, "if TYPE_CHECKING:\n    pass", set()),
        (Kind.LOGIC, "x = a and b", {"x = a or b", "x = True and b", "x = a and True"}),
        (Kind.LOGIC, "x = a or b", {"x = a and b", "x = False or b", "x = a or False"}),
        (Kind.LOGIC, "x = not a", {"x = bool(a)"}),
        (Kind.BOUNDARY, "x = a[:16]", {"x = a[:(17)]", "x = a[:(15)]"}),
        (Kind.BOUNDARY, "x = True", set()),
        (Kind.BOUNDARY, "x: A[3] = 4", {"x: A[3] = (5)", "x: A[3] = (3)"}),
        (Kind.RAISE, "if a:\n    raise B(c)", {"if a:\n    pass"}),
        (Kind.RAISE, "raise B(\n    c,\n) from d", {"pass"}),
        (Kind.CALL, "must_be(a)\nb = c(d)", {"pass\nb = c(d)"}),
        (Kind.CALL, "assert_never(a)", set()),
        (Kind.REASON, "reasons += [a]", {"pass"}),
        (Kind.REASON, "def f():\n    yield a", {"def f():\n    yield from ()"}),
        (Kind.REASON, "def f():\n    yield from ()", set()),
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
    for path in UNSEEN:
        assert [module for module in named if module.is_relative_to(path)], path


#: A module, another one that uses a constant of it, and tests.
FILES = {
    "ruled.py": """\
LIMIT = 10
def small(n: int) -> bool:
    return 0 <= n < LIMIT
def few(n: int) -> bool:
    return n < 3
def spent(n: int) -> int:
    while n:
        n -= 1
    return n
def alone(n: int) -> int:
    return n + 1
""",
    "ruling.py": "from ruled import LIMIT\ndef is_limit(n: int) -> bool:\n    return n == LIMIT\n",
    "test_ruled.py": """\
import os, time
import pytest
from ruled import few, small, spent
from ruling import is_limit
@pytest.fixture(scope="module")
def known():
    return few(2)
def test_small():
    assert small(3) and not small(-5)
def test_limit():
    assert is_limit(10)
def test_first(known): ...
def test_second(known):
    assert known
def test_spent():
    assert spent(2) == 0
def test_what_stays():
    if os.fork() == 0:  # and an orphan in a session of its own
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
""",
    "pytest.ini": "[pytest]\nmarkers = vm\n",
}
RULED, TESTS = Path("ruled.py"), ("test_ruled.py",)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "tree").mkdir()
    for name, text in FILES.items():
        (tmp_path / "tree" / name).write_text(text)
    with Tree(tmp_path / "tree") as tree:
        yield tree


def found_of(line: str) -> dict[str, Mutation]:
    """Each mutation of a line of the module, by what it makes of the line."""
    source, number = FILES["ruled.py"].encode(), FILES["ruled.py"].splitlines().index(line) + 1
    return {
        it.applied(source).decode().splitlines()[number - 1].strip(): it
        for it in mutations(source)
        if it.line == number
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "    return 0 <= n < LIMIT",
            dict.fromkeys(
                ("0 < n < LIMIT", "(1) <= n < LIMIT", "(-1) <= n < LIMIT", "0 <= n <= LIMIT"), Outcome.SURVIVED
            ),
        ),
        # what a fixture executes once, for the test that looks at it too
        (
            "    return n < 3",
            {"n <= 3": Outcome.SURVIVED, "n < (4)": Outcome.SURVIVED, "n < (2)": Outcome.CAUGHT},
        ),
        # on import: the test that notices executes nothing else of the module
        ("LIMIT = 10", {"LIMIT = (11)": Outcome.CAUGHT, "LIMIT = (9)": Outcome.CAUGHT}),
        ("    return n + 1", {"n + (2)": Outcome.NOT_EXECUTED, "n + (0)": Outcome.NOT_EXECUTED}),
    ],
)
def test_what_tests_notice_is_caught_and_what_they_do_not_survives(
    tree: Tree, line: str, expected: dict[str, Outcome]
) -> None:
    recording = Recording.read(tree.recorded(TESTS))
    outcomes = {
        text.removeprefix("return "): tree.tried(RULED, it, TESTS, recording) for text, it in found_of(line).items()
    }
    assert outcomes == expected
    assert (tree.path / RULED).read_text() == FILES["ruled.py"]
    assert len(working_in(tree)) == 1, "what runs tests, and nothing that a test started"


def test_what_runs_in_another_process_is_tried_with_every_test(tree: Tree) -> None:
    (tree.path / "test_child.py").write_text(
        "import subprocess, sys\n"
        "def test_it():\n"
        "    said = subprocess.check_output([sys.executable, '-c', 'import ruled; print(ruled.alone(1))'])\n"
        "    assert said == b'2\\n'\n"
    )
    tests, mutation = (*TESTS, "test_child.py"), found_of("    return n + 1")["return n + (2)"]
    records = tree.recorded(tests)
    assert tree.tried(RULED, mutation, tests, Recording.read(records)) is Outcome.NOT_EXECUTED
    unseen = Recording.read(records, (RULED,))
    assert tree.tried(RULED, mutation, tests, unseen) is Outcome.CAUGHT
    assert tree.tried(RULED, mutation, TESTS, unseen) is Outcome.SURVIVED
    # what tests are seen to execute is tried with these first, and with the others
    seen = found_of("    return n < 3")["return n < (2)"]
    selected = unseen.selected(RULED, FILES["ruled.py"].encode(), seen, tests)
    assert (selected.files, selected.alone) == (tests, False)
    assert {name.partition("::")[2] for name in selected.first[:2]} == {"test_first", "test_second"}
    assert len(selected.first) == len(unseen.seconds)


def test_progress_is_told_once_a_minute() -> None:
    now = [0.0]
    progress = Progress(5, lambda: now[0])
    told = []
    for now[0], outcome in (
        (1, Outcome.CAUGHT),
        (59, Outcome.SURVIVED),
        (60, Outcome.NOT_EXECUTED),
        (119, Outcome.CAUGHT),
        (130, Outcome.TOOK_TOO_LONG),
    ):
        told.append(progress.tried(outcome))
    assert told == ["", "", "3 of 5 tried, 2 survived", "", "5 of 5 tried, 2 survived"]


def working_in(tree: Tree) -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found += [process] if (process / "cwd").readlink() == tree.path else []
    return found


def test_files_belong_to_whom_they_belong_outside(tree: Tree) -> None:
    """In a user namespace those of root would be nobody's, and mvm would trust no program."""
    owner = Path("/usr/bin").stat().st_uid
    (tree.path / "test_ruled.py").write_text(
        f"import os\ndef test_it():\n    assert os.stat('/usr/bin').st_uid == {owner}\n"
    )
    tree.recorded(TESTS)


def test_tests_that_fail_by_themselves_are_no_judges(tree: Tree) -> None:
    (tree.path / "test_ruled.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(RuntimeError, match="without a mutation"):
        tree.recorded(TESTS)


def test_tests_that_fail_the_second_time_are_no_judges(tree: Tree) -> None:
    once = "import os\nfrom ruled import alone\ndef test_it():\n    alone(1)\n    os.mkdir('once')\n"
    (tree.path / "test_ruled.py").write_text(once)
    recording = Recording.read(tree.recorded(TESTS))
    with pytest.raises(RuntimeError, match="without a mutation"):
        tree.check(RULED, found_of("    return n + 1")["return n + (2)"], TESTS, recording)


def test_a_test_that_does_not_end_is_ended(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one runs as before."""
    monkeypatch.setattr("tools.mutants.trial._LEAST", scaled(2))
    recording = Recording.read(tree.recorded(TESTS))
    endless = found_of("        n -= 1")["n -= (0)"]
    assert tree.tried(RULED, endless, TESTS, recording) is Outcome.TOOK_TOO_LONG
    tree.check(RULED, endless, TESTS, recording)


def test_a_copy_has_the_files_that_git_tracks(tmp_path: Path) -> None:
    copied = Tree.copied(tmp_path / "copy")
    assert (copied.path / "mvmnix/formats/nar.py").read_bytes() == (ROOT / "mvmnix/formats/nar.py").read_bytes()
    assert not (copied.path / ".venv").exists()


@pytest.mark.parametrize(
    ("source", "line", "executed"),
    [
        ("def f():\n    a(\n        1\n    )\n    b", 3, {2, 3, 4}),
        ("def f():\n    if (\n        a\n    ):\n        b\n    c", 3, {2, 3, 4}),
        ("def f():\n    if a:\n        raise B\n    c", 3, {3}),
        ("def f():\n    try:\n        a\n    except (B, C[1]):\n        d", 4, {2, 3, 4, 5}),
        ("def f():\n    match a:\n        case 1 if b > 2:\n            c", 3, {2, 3, 4}),
        ("class A:\n    def f(self):\n        return 1", 3, {3}),
        ("def f():\n    def g(a=1):\n        return a", 2, {2}),
        # what runs on import: anything of the module
        ("class A:\n    a: int = 1\n    def f(self): ...", 2, None),
        ("def f(a=1):\n    return a", 1, None),
        ("a = lambda b: b > 1", 1, None),
    ],
)
def test_a_mutation_needs_the_tests_that_execute_its_statement(
    source: str, line: int, executed: set[int] | None
) -> None:
    recording = Recording(seconds={f"t.py::{number}": 1.0 for number in range(1, 7)} | {"other.py::1": 1.0})
    for number in range(1, 7):
        recording.lines["m.py"][number].add(f"t.py::{number}")
    mutation = Mutation(Kind.BOUNDARY, line, 0, 1, b"")
    selected = recording.selected(Path("m.py"), source.encode(), mutation, ["t.py", "u"])
    assert set(selected.first) == {f"t.py::{number}" for number in executed or range(1, 7)}
    assert selected.alone == (executed is not None)
    assert selected.files == ("t.py",)
