"""What is kept of machines that have ended: the youngest of those that mvm may remove, and all others."""

import os
import signal
from types import SimpleNamespace

import pytest

from mvmnix.machines import retention
from mvmnix.machines.retention import MachineKind
from mvmnix.system.private_dirs import Directory
from tests.patience import until
from tests.unit.cli.machines import kinds, machines, supervisor_of
from tests.unit.cli.plans import flake_of, signed
from tests.unit.cli.station import Station


@pytest.fixture
def forgetful(settled: Station) -> Station:
    """A user whose mvm keeps two machines of each kind."""
    settled.monkeypatch.setattr(retention, "KEPT", {MachineKind.RUN: 2, MachineKind.BUILD: 2})
    settled.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    return settled


def listed(station: Station) -> list[str]:
    """The names of all machines; those that were made in one second come in no order."""
    return sorted(it["name"] for it in station.mvm("ps", "--all", "--json").answer("machines"))


def test_the_youngest_runs_are_kept_and_their_receipts_with_them(forgetful: Station) -> None:
    flake = forgetful.flake()
    for name in ("a", "b", "c", "d"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "false").code == 1
    assert listed(forgetful) == ["c", "d"]
    assert [len(list(it.glob("receipt*"))) for it in machines(forgetful)] == [1, 1]
    assert kinds(forgetful).count("end") == 4
    assert forgetful.mvm("audit", "verify").code in {0, 3}


def test_others_are_kept_until_somebody_removes_them(forgetful: Station) -> None:
    flake = forgetful.flake()
    bundle = signed(forgetful, reference=forgetful.flake("planned"))
    assert forgetful.mvm("run", "--no-rm", "--name", "kept", flake, "--", "true").code == 0
    assert forgetful.mvm("launch", "--no-rm", "--name", "launched", bundle).code == 0
    detached = forgetful.mvm("run", "-d", "--name", "detached", flake, "--", "true").out.strip()
    assert forgetful.mvm("wait", detached).out == "0\n"
    created = forgetful.mvm("create", "--name", "created", bundle).out.strip()
    assert forgetful.mvm("start", "--attach", created).code == 0
    for name in ("a", "b", "c"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    assert listed(forgetful) == ["b", "c", "created", "detached", "kept", "launched"]


def test_a_launch_may_be_disposable(forgetful: Station) -> None:
    bundle = signed(forgetful)
    assert forgetful.mvm("launch", "--name", "launched", bundle).code == 0
    for name, left in (("a", ["a", "launched"]), ("b", ["a", "b"])):
        assert forgetful.mvm("run", "--name", name, flake_of(forgetful), "--", "true").code == 0
        assert listed(forgetful) == left


@pytest.mark.parametrize(
    ("command", "code"), [(("true",), 0), (("complain", "loudly"), 3), (("no-such-program",), 127)]
)
def test_what_is_not_to_be_kept_is_removed_with_its_end(
    forgetful: Station, command: tuple[str, ...], code: int
) -> None:
    said = forgetful.mvm("run", "--rm", "--evidence", forgetful.flake(), "--", *command)
    assert (said.code, machines(forgetful)) == (code, []), said.err
    assert "removed with its machine" in said.err
    assert kinds(forgetful) == ["admission", "start", "end"], "the audit log keeps what it has"
    assert forgetful.mvm("audit", "verify").code in {0, 3}
    bundle = signed(forgetful, reference=forgetful.flake("planned"))
    assert (forgetful.mvm("launch", "--rm", bundle).code, machines(forgetful)) == (0, [])


@pytest.mark.parametrize(
    ("place", "command", "printed"),
    [("registry", ("wait",), "stopped\n"), ("logs", ("logs", "-f"), "")],
    ids=["wait", "logs -f"],
)
def test_a_detached_run_is_removed_by_its_supervisor_while_one_waits_for_it(
    forgetful: Station, place: str, command: tuple[str, ...], printed: str
) -> None:
    """How it ended is what the audit log says."""
    assert forgetful.mvm("run", "-d", "--rm", "--name", "web", forgetful.flake(), "--", "linger").code == 0
    supervisor = supervisor_of(forgetful, "web")
    until(lambda: forgetful.mvm("logs", "web").code == 0)  # its command has begun, and what it prints is kept

    def ends(_seconds: float) -> None:
        os.kill(supervisor, signal.SIGTERM)
        until(lambda: not machines(forgetful))

    with forgetful.monkeypatch.context() as patched:
        patched.setattr(f"mvmnix.machines.{place}.time", SimpleNamespace(sleep=ends))
        said = forgetful.mvm(*command, "web")
    assert (said.code, said.out) == (0, printed), said.err


@pytest.mark.parametrize("command", [("stop",), ("kill",), ("rm", "--force")])
def test_a_detached_run_that_is_ended_is_gone(forgetful: Station, command: tuple[str, ...]) -> None:
    said = forgetful.mvm("run", "-d", "--rm", "--name", "web", forgetful.flake(), "--", "linger")
    ended = forgetful.mvm(*command, "web")
    assert (ended.code, ended.out) == (0, said.out), ended.err
    until(lambda: not machines(forgetful))


def test_a_run_that_failed_is_kept_among_the_last(forgetful: Station) -> None:
    """Its message names its directory."""
    flake = forgetful.flake()
    said = forgetful.mvm("run", "--rm", "--timeout", "1", "--name", "late", flake, "--", "linger")
    (machine,) = machines(forgetful)
    assert (said.code, str(machine) in said.err) == (124, True), said.err
    for name in ("a", "b"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    assert listed(forgetful) == ["a", "b"]


def test_what_runs_is_not_removed(forgetful: Station) -> None:
    flake = forgetful.flake()
    living = forgetful.mvm("run", "-d", "--name", "living", flake, "--", "linger").out.strip()
    retention.mark(Directory.open(str(forgetful.state / "machines")), living, MachineKind.RUN)
    for name in ("a", "b", "c"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    assert listed(forgetful) == ["b", "c", "living"]
    assert forgetful.mvm("stop", "living").out == f"{living}\n"
    assert forgetful.mvm("run", "--name", "d", flake, "--", "true").code == 0
    assert listed(forgetful) == ["c", "d"]


@pytest.mark.parametrize("mark", [b"", b"rum", b"\xff", b"x" * 1000, b"build"])
def test_another_mark_marks_no_run(forgetful: Station, mark: bytes) -> None:
    flake = forgetful.flake()
    assert forgetful.mvm("run", "--name", "odd", flake, "--", "true").code == 0
    (machine,) = machines(forgetful)
    (machine / retention.MARK).write_bytes(mark)
    for name in ("a", "b", "c"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    assert listed(forgetful) == ["b", "c", "odd"]


def test_a_run_s_failure_is_pruned_after_too(forgetful: Station) -> None:
    """What fails after its guest was ready is disposable like any other."""
    flake = forgetful.flake()
    for name in ("a", "b"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    assert forgetful.mvm("run", "--timeout", "1", "--name", "late", flake, "--", "linger").code == 124
    assert listed(forgetful) == ["b", "late"]


@pytest.mark.parametrize("done", range(8))
def test_a_removal_that_is_killed_leaves_nothing_broken(forgetful: Station, done: int) -> None:
    flake = forgetful.flake()
    for name in ("a", "b"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    (doomed,) = (it for it in machines(forgetful) if b'"name":"a"' in (it / "machine.json").read_bytes())
    assert 2 < len(list(doomed.iterdir())) <= 8
    left = [done]

    def dies(directory: Directory, name: str, **durable: bool) -> None:
        if directory.path == str(doomed) and not left[0]:
            raise KeyboardInterrupt
        left[0] -= directory.path == str(doomed)
        remove(directory, name, **durable)

    remove = Directory.remove
    with forgetful.monkeypatch.context() as patched:
        patched.setattr(Directory, "remove", dies)
        assert forgetful.mvm("run", "--name", "c", flake, "--", "true").code in {0, 125}
    said = forgetful.mvm("ps", "--all")
    assert (said.code, said.err) == (0, "")
    assert set(listed(forgetful)) in ({"a", "b", "c"}, {"b", "c"})
    for name in ("d", "e", "f"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    assert set(listed(forgetful)) in ({"e", "f"}, {"a", "e", "f"})


def test_what_can_not_be_removed_is_said_and_changes_no_exit_code(forgetful: Station) -> None:
    def fails(_directory: Directory, _name: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    flake = forgetful.flake()
    for name in ("a", "b"):
        assert forgetful.mvm("run", "--name", name, flake, "--", "true").code == 0
    with forgetful.monkeypatch.context() as patched:
        patched.setattr(Directory, "remove_tree", fails)
        said = forgetful.mvm("run", "--name", "c", flake, "--", "complain")
    assert (said.code, "an ended machine can't be removed: [Errno 1] Operation not permitted" in said.err) == (3, True)


def test_a_removal_that_fails_is_said_and_changes_no_exit_code(forgetful: Station) -> None:
    def fails(_directory: Directory, _name: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    with forgetful.monkeypatch.context() as patched:
        patched.setattr(Directory, "remove_tree", fails)
        said = forgetful.mvm("run", "--rm", forgetful.flake(), "--", "complain")
    (machine,) = machines(forgetful)
    why = f"the machine {machine.name} can't be removed: [Errno 1] Operation not permitted"
    assert (said.code, why in said.err) == (3, True), said.err
