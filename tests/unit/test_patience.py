"""How tests wait: scaled to the machine, and by the names of tests/patience.py alone."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import patience
from tests.repository import ROOT, tracked

#: Where a function or method of this name takes seconds.
PLACES = {
    "acquire": 1,
    "after": 0,
    "alarm": 0,
    "create_connection": 1,
    "join": 0,
    "poll": 0,
    "result": 0,
    "select": 3,
    "setitimer": 1,
    "settimeout": 0,
    "settle": 0,
    "sleep": 0,
    "timeout": 0,
    "turn": 0,
    "wait": 0,
    "wait_for": 1,
}
#: What seconds, and milliseconds, are called where they are given by name.
NAMES = {"boot_seconds", "deadline", "idle", "idle_seconds", "patience", "seconds", "stall", "timeout", "wall_seconds"}
#: Calls whose seconds are no wait: spans of time, records that are written and read, and a number of lanes.
NO_WAITS = {"AnchorRule.seconds", "Lanes.idle", "PlanLimits.idle_seconds", "later.seconds", "timedelta.seconds"}
#: Functions that read a clock.
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "thread_time"}
#: Files that may have a number for a wait, or read a clock, with the reason.
NUMBERS = {
    **dict.fromkeys(
        (
            "tests/unit/network/gateway_world.py",
            "tests/unit/network/gateway/test_dialer_client.py",
            "tests/unit/network/gateway/test_process.py",
            "tests/unit/network/gateway/test_settling.py",
        ),
        "a clock that jumps (tests/support/virtual_time.py)",
    ),
    "tests/patience.py": "gives all others theirs",
    "tests/unit/vmm/test_boot_watchdog.py": "a clock of the test's own, which nothing waits for",
    "tests/unit/system/test_loop.py": "a timer that is due in 68 years",
    "tests/unit/launch/fake_hypervisor.py": "runs without this tree's modules; seconds of processor time",
    "tests/unit/test_patience.py": "a clock of its own",
    "tests/hostile/ways_out.py": "runs alone in the sandbox; its waits end attempts that must not succeed",
}
READING = {
    "tests/patience.py": "measures the machine, and ends what hangs",
    "tests/integration/test_agent_keeper.py": "what a guest is told of its clock",
    "tests/integration/test_agent_thaw.py": "the same",
    "tests/hostile/network/test_connections.py": "rates: a slow machine only has more time for the same bytes",
    "tests/hostile/network/test_corpus_floods.py": "rates, too",
    "tests/hostile/test_neighbours.py": "the same, of processor time",
    "tests/hostile/network/wire.py": "gathers for so long what must not come",
    "tests/unit/launch/fake_hypervisor.py": "uses up processor time",
    "tests/workbench.py": "one time-out for several commands",
}

TESTS = [path for path in tracked() if path.parts[0] == "tests" and path.suffix == ".py"]


def name_of(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


def has_number(node: ast.expr, named: dict[str, ast.expr]) -> bool:
    """Whether a wait is written as a number: there, by a name of this file, or in a sum or a choice of such."""
    match node:
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float() as value):
            return value != 0
        case ast.Name(id=name) if name in named:
            return has_number(named[name], {key: value for key, value in named.items() if key != name})
        case ast.BinOp(left=left, op=operator, right=right):
            found = (has_number(left, named), has_number(right, named))
            # a part or a multiple of what is scaled is scaled
            return all(found) if isinstance(operator, ast.Mult | ast.Div) else any(found)
        case ast.IfExp(body=left, orelse=right):
            return has_number(left, named) or has_number(right, named)
        case _:
            return False


def names(module: ast.Module) -> dict[str, ast.expr]:
    """What the names of a module's own constants and its functions' defaults stand for."""
    found: dict[str, ast.expr] = {}
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found[name] = value
            case ast.arguments(args=given, posonlyargs=first, defaults=defaults, kwonlyargs=more, kw_defaults=values):
                positional = [*first, *given]
                pairs = [*zip(positional[len(positional) - len(defaults) :], defaults, strict=True)]
                pairs += [(one, value) for one, value in zip(more, values, strict=True) if value is not None]
                found |= {one.arg: value for one, value in pairs}
            case _:
                pass
    return found


def waits(module: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Every expression that is given as a wait, with its line."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node)
        place = PLACES.get(name)
        if place is not None and place < len(node.args):
            yield node.lineno, node.args[place]
        for keyword in node.keywords:
            if keyword.arg in NAMES and f"{name}.{keyword.arg}" not in NO_WAITS:
                yield keyword.value.lineno, keyword.value


def numbers(source: str) -> list[int]:
    """The lines at which a wait is a number, the defaults of waits among them."""
    module = ast.parse(source)
    named = names(module)
    found = [line for line, wait in waits(module) if has_number(wait, named)]
    found += [value.lineno for name, value in named.items() if name in NAMES and has_number(value, named)]
    return sorted(set(found))


def clocks(source: str) -> list[int]:
    """The lines at which a clock is read."""
    if not any(name in source for name in CLOCKS):  # most files, which need no parser
        return []
    return [
        node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and name_of(node) in CLOCKS
    ]


def test_no_wait_is_a_number() -> None:
    found = {str(path): lines for path in TESTS if (lines := numbers((ROOT / path).read_text()))}
    assert found.keys() >= NUMBERS.keys(), "it has none any more"
    assert {path: lines for path, lines in found.items() if path not in NUMBERS} == {}, "take one of tests/patience.py"


def test_no_clock_is_read() -> None:
    """What is fast on one machine is slow on the next: count work, or measure it in bench/."""
    found = {str(path): lines for path in TESTS if (lines := clocks((ROOT / path).read_text()))}
    assert found.keys() >= READING.keys(), "it reads none any more"
    assert {path: lines for path, lines in found.items() if path not in READING} == {}


@pytest.mark.parametrize(
    "line",
    [
        "time.sleep(1)",
        "sock.settimeout(0.5)",
        "thread.join(30)",
        "process.wait(timeout=5)",
        "subprocess.run(argv, timeout=10 if slow else 20)",
        "LIMIT = 10\nprocess.wait(LIMIT)",
        "def wait(seconds: float = 30): ...",
        "process.wait(2 * 30)",
        "process.wait(now() + 30)",
    ],
)
def test_numbers_are_found(line: str) -> None:
    assert numbers(line)


@pytest.mark.parametrize(
    "line",
    ["time.sleep(POLL)", "poll.poll(EVENT_PATIENCE * 1000)", "lane.turn(0)", "','.join(words)", "timedelta(seconds=1)"],
)
def test_others_are_not(line: str) -> None:
    assert not numbers(line)


@pytest.mark.parametrize(
    ("slowness", "load", "factor"),
    [(0.1, 0.0, 1.0), (3.0, 0.5, 3.0), (1.0, 7.0, 7.0), (2.0, 3.0, 6.0), (9.0, 9.0, 20.0)],
)
def test_the_factor(slowness: float, load: float, factor: float) -> None:
    assert patience.bounded(slowness, load) == factor


@pytest.mark.parametrize(("given", "taken"), [("4.5", 4.5), ("0.1", None), ("1e9", None), ("nan", None), ("", None)])
def test_it_is_measured_once(given: str, taken: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.VARIABLE, given)
    monkeypatch.setattr(patience, "measure", lambda: 7.0)
    assert patience.factor() == (taken or 7.0)
    assert float(os.environ[patience.VARIABLE]) == (taken or 7.0)
    monkeypatch.setattr(patience, "measure", lambda: pytest.fail("measured again"))
    assert patience.factor() == (taken or 7.0)


def test_a_process_that_a_test_starts_takes_it_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.VARIABLE, "3.00")
    argv = [sys.executable, "-c", "from tests.patience import scaled; print(scaled(1.5))"]
    argv = [".ci/environment", *argv]
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, check=True).stdout == b"5\n"


def test_what_never_comes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = list[int]()
    monkeypatch.setattr("time.monotonic", lambda: float(len(turns)))
    with pytest.raises(AssertionError, match="nothing came"):
        patience.until(lambda: False, lambda: "nothing came", lambda: turns.append(0), seconds=3)
    assert len(turns) == 3
    assert patience.until(lambda: "found") == "found"


def _connects(item: ast.withitem) -> bool:
    match item.context_expr:
        case ast.Call(func=ast.Attribute(attr="connect" | "create_connection")):
            return True
        case _:
            return False


def _expects_a_reset(item: ast.withitem) -> bool:
    return ast.unparse(item.context_expr) == "pytest.raises(ConnectionResetError)"


def too_late_for_a_reset(source: str) -> list[int]:
    """Lines that expect a reset only once a connection was made: it may come before connect(2) returns."""
    found: list[int] = []
    if "ConnectionResetError" not in source:  # to parse all tests takes seconds
        return found
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.With):
            first = node.body[0]
            items = [*node.items, *(first.items if isinstance(first, ast.With) else [])]
            connected = False
            for item in items:
                if connected and _expects_a_reset(item):
                    found.append(item.context_expr.lineno)
                connected = connected or _connects(item)
    return found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("with pytest.raises(ConnectionResetError), guest.connect(a, 7) as one:\n    one.recv(1)", []),
        ("with guest.connect(a, 7) as one, pytest.raises(ConnectionResetError):\n    one.recv(1)", [1]),
        ("with guest.connect(a, 7) as one:\n    with pytest.raises(ConnectionResetError):\n        one.recv(1)", [2]),
        (
            "with guest.connect(a, 7) as one:\n    one.send(b'')\n    with pytest.raises(ConnectionResetError): pass",
            [],
        ),
    ],
)
def test_what_is_too_late_for_a_reset(source: str, lines: list[int]) -> None:
    assert too_late_for_a_reset(source) == lines


def test_no_test_expects_a_reset_too_late() -> None:
    assert {str(path): lines for path in TESTS if (lines := too_late_for_a_reset((ROOT / path).read_text()))} == {}
