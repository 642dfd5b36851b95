"""What a user reads of a child that failed, briefly: the command, the first cause, what to do about it, the log.

Each place that runs a child fails for each cause. The children are programs of the test's, but for those in sandboxes,
whose end is made up.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from mvmnix.audit import anchored_log, anchors
from mvmnix.builder.fetch import unpack
from mvmnix.builder.flakes import git
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.store_choice import NixStore, StoreKind
from mvmnix.builder.pins import debian
from mvmnix.builder.session import build_errors
from mvmnix.builder.session.exec import CommandResult
from mvmnix.cli import main as door
from mvmnix.errors import MOST_CHARACTERS, MOST_LINES, MvmnixError
from mvmnix.launch.secrets import resolve
from mvmnix.launch.shares import image
from mvmnix.plan.secret_reference import SecretSource, SecretTarget
from mvmnix.sandbox import child, subordinate_ids
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.system import child_logs, process
from mvmnix.system.child_causes import Cause, cause_of, hint_for
from mvmnix.system.process import Completed, ProcessError
from mvmnix.vmm.jail import root
from mvmnix.vmm.port import Invocation
from mvmnix.vmm.process import JailedProcess
from tests.patience import EVENT_PATIENCE, PATIENCE, SHORT, scaled
from tests.unit.cli.station import Said, Station
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.null_sandbox import NullSandbox

#: What no child says in earnest.
FLOOD = b"x" * 200_000 + b"\n" + b"and more\n" * 20_000
#: How a program fails: what its script does → the cause that is told, a pattern of the hint.
SCRIPTS: dict[str, tuple[str, str, str]] = {
    "disk": ("echo 'error: writing: No space left on device' >&2; exit 4", "No space left on device", "room|MiB"),
    "denied": ("echo 'error: opening /x: Permission denied' >&2; exit 4", "Permission denied", "who owns|read all"),
    "read-only": ("echo 'error: /x: Read-only file system' >&2; exit 4", "Read-only file system", "findmnt"),
    "namespaces": (
        "echo 'error: creating a new namespace: Operation not permitted' >&2; exit 4",
        "new namespace",
        "user.max_user_namespaces",
    ),
    "memory": ("echo 'error: Cannot allocate memory' >&2; exit 4", "Cannot allocate memory", "free -m"),
    "killed": ("kill -9 $$", "SIGKILL", "journalctl -k"),
    "crashed": ("kill -SEGV $$", "SIGSEGV", "journalctl -k"),
}
#: Ways to fail that are not the program's own.
STARTS: dict[str, tuple[str, str]] = {
    "missing": ("not found", "install"),
    "not executable": ("Permission denied", "ls -lL"),
    "no interpreter": ("not found", "ls -lL"),
}


def fail(station: Station, provoke: Callable[[], object]) -> Said:
    @click.command()
    def fails() -> None:
        provoke()

    station.monkeypatch.setattr(door.LazyGroup, "get_command", lambda _self, _context, _name: fails)
    return station.mvm("fails")


def check(said: Said, station: Station, command: str, cause: str, hint: str, *, log: bytes | None = b"") -> None:
    """Briefly the four parts. `log` is what stands in the log's file; None: there is none."""
    lines = said.err.splitlines()
    assert len(lines) <= MOST_LINES + 3, said.err  # next, ran, log
    assert len(said.err) <= MOST_CHARACTERS + 1500, said.err
    assert re.search(
        rf"^(mvm: command failed with status \S+.*: |  ran:  .*){re.escape(command)}", said.err, re.MULTILINE
    )
    assert len([line for line in lines if command in line]) <= 3
    assert cause in said.err
    (told,) = (line for line in lines if line.startswith("  next: "))
    assert re.search(hint, told), told
    if cause != "not found":
        assert "apt-get install" not in told and "install the package" not in told, "it is installed"
    logs = [line.removeprefix("  log:  ") for line in lines if line.startswith("  log:  ")]
    if log is None:
        assert logs == []
        return
    (where,) = map(Path, logs)
    assert where.parent == station.state / "logs"
    assert where.stat().st_mode & 0o777 == 0o600
    kept = where.read_bytes()
    assert log in kept
    assert len(kept) <= child_logs.LARGEST + 100


class Programs:
    """A program that fails as it was told to."""

    def __init__(self, path: Path) -> None:
        self.path = path / "a-program"

    def script(self, text: str) -> str:
        self.path.write_text(f"#!/bin/sh\n{text}\n")
        self.path.chmod(0o755)
        return str(self.path)

    def start(self, how: str) -> str:
        if how != "missing":
            self.script("exit 0")
        if how == "not executable":
            self.path.chmod(0o600)
        if how == "no interpreter":
            self.path.write_text("#!/proc/nonexistent/sh\n")
        return str(self.path)


@pytest.fixture
def programs(tmp_path: Path, station: Station) -> Programs:
    station.monkeypatch.setattr(debian, "locate", lambda _: str(tmp_path / "a-program"))
    station.monkeypatch.setattr(debian, "_APT_CONFIG", str(tmp_path / "a-program"))
    station.monkeypatch.setattr(root, "LOADER", str(tmp_path / "a-program"))
    return Programs(tmp_path)


def nix(program: str, seconds: float = EVENT_PATIENCE) -> None:
    HostNix(program, program, NixStore(StoreKind.OWN, "no other", "/o")).run([program, "--version"], timeout=seconds)


def command_anchor(program: str, seconds: int = EVENT_PATIENCE) -> None:
    anchor = anchors.CommandAnchor("c", required=True, argv=(program,), seconds=seconds)
    try:
        anchor.take(SimpleNamespace(note=b"n"), None)  # type: ignore[arg-type]
    except (MvmnixError, OSError) as error:
        raise anchored_log.unavailable(anchor, error) from error


def newuidmap(program: str) -> None:
    subordinate_ids.SubordinateIds._map(program, 1, 2, 3, 1)


def make_image(program: str) -> None:
    image._run(JailedProcess.spawn(Invocation((program,), ()), (), NullSandbox()))


def loader(program: str) -> None:
    root._asked("/bin/true")


#: Places that run a program of the host as it is.
PLACES: dict[str, Callable[[str], object]] = {
    "nix": nix,
    "apt-get": lambda _: debian.apt_targets(),
    "apt-config": lambda _: debian.read_apt_settings(),
    "command anchor": command_anchor,
    "newuidmap": newuidmap,
    "mkfs.erofs": make_image,
    "ld.so": loader,
}


@pytest.mark.parametrize("how", SCRIPTS)
@pytest.mark.parametrize("place", PLACES)
def test_a_program_that_fails(settled: Station, programs: Programs, place: str, how: str) -> None:
    text, cause, hint = SCRIPTS[how]
    program = programs.script(f"echo first >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; {text}")
    check(fail(settled, lambda: PLACES[place](program)), settled, program, cause, hint, log=b"first\nxxxxx")


@pytest.mark.parametrize("place", PLACES)
def test_a_program_that_fails_for_a_reason_of_its_own(settled: Station, programs: Programs, place: str) -> None:
    program = programs.script("echo fatal: so it is >&2; yes and more | head -n 9999 >&2; exit 3")
    check(fail(settled, lambda: PLACES[place](program)), settled, program, "fatal: so it is", "")


@pytest.mark.parametrize("how", STARTS)
@pytest.mark.parametrize("place", PLACES)
def test_a_program_that_does_not_start(settled: Station, programs: Programs, place: str, how: str) -> None:
    program, (cause, hint) = programs.start(how), STARTS[how]
    if how == "missing" and place in {"apt-config", "command anchor"}:
        hint = "apt|correct the command"
    check(fail(settled, lambda: PLACES[place](program)), settled, program, cause, hint)


#: Places that bound how long it may take, with a bound that runs out.
BOUNDED = {"nix": partial(nix, seconds=SHORT), "command anchor": partial(command_anchor, seconds=scaled(1))}


@pytest.mark.parametrize("place", BOUNDED)
def test_a_program_that_takes_too_long(settled: Station, programs: Programs, place: str) -> None:
    program = programs.script(f"exec sleep {PATIENCE}")
    check(fail(settled, lambda: BOUNDED[place](program)), settled, program, "no end after", "uptime|seconds")


#: How a sandboxed program ends → the cause that is told, a pattern of the hint.
SANDBOXED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no namespaces": (
        {"status": 1, "clean": False, "stderr": b"bwrap: No permissions to create new namespace\n"},
        "the sandbox can't be made: bwrap: No permissions to create new namespace",
        "user.max_user_namespaces",
    ),
    "no more namespaces": (
        {"status": 1, "clean": False, "stderr": b"unshare: unshare failed: No space left on device\n"},
        "the sandbox can't be made: unshare: unshare failed: No space left on device",
        "user.max_user_namespaces",
    ),
    "killed": ({"status": 137, "stderr": b"Killed\n"}, "Killed", "journalctl -k"),
    "its room": ({"status": 1, "stderr": b"error: /work/x: No space left on device\n" + FLOOD}, "/work/x", "MiB"),
    "late": ({"stop": child.Stop.TIME, "stderr": FLOOD}, "no end after", "uptime"),
    "memory": ({"stop": child.Stop.MEMORY, "stderr": FLOOD}, "MiB of memory", "free -m"),
    "output": ({"stop": child.Stop.OUTPUT, "stderr": FLOOD}, "wrote more than it may", "look at what it was given"),
}


def work_tree(_: Path) -> None:
    git._said(SimpleNamespace(files={}, environment={}), Path("/flake"), "git status")  # type: ignore[arg-type]


def git_anchor(path: Path) -> None:
    repository = path.with_name("anchor.git")
    subprocess.run(["git", "init", "-q", "--bare", str(repository)], check=True)
    anchor = anchors.GitAnchor("g", required=True, repository=str(repository), branch="b", seconds=EVENT_PATIENCE)
    try:
        anchor.latest()
    except (MvmnixError, OSError) as error:
        raise anchored_log.unavailable(anchor, error) from error


def archive(path: Path) -> None:
    with unpack.unpacked_archive("https://x.test/a.tar.gz", path, Bounds()):
        pass


def apt_list(path: Path) -> None:
    debian._unpacked(path)


@pytest.mark.parametrize("how", SANDBOXED)
@pytest.mark.parametrize("place", [work_tree, git_anchor, archive, apt_list])
def test_a_sandboxed_program_that_fails(
    settled: Station, tmp_path: Path, place: Callable[[Path], None], how: str
) -> None:
    ended, cause, hint = SANDBOXED[how]
    values: dict[str, Any] = {"status": 0, "stdout": b"", "stderr": b"", "stop": None, "clean": True} | ended
    settled.monkeypatch.setattr(Sandbox, "_run", lambda self, argv, *_: self._completed(argv, child.Ended(**values)))
    (tmp_path / "file.gz").write_bytes(b"")
    said = fail(settled, lambda: place(tmp_path / "file.gz"))
    check(said, settled, "/usr/lib/apt/apt-helper" if place is apt_list else "/usr/bin/dash", cause, hint)
    assert "is not a git work tree" not in said.err, "it may well be one"


def test_a_repository_is_to_blame_for_what_git_says_of_it(settled: Station, tmp_path: Path) -> None:
    ended = child.Ended(128, b"", b"fatal: bad object HEAD\n" + FLOOD, None, clean=True)
    settled.monkeypatch.setattr(Sandbox, "_run", lambda self, argv, *_: self._completed(argv, ended))
    said = fail(settled, lambda: work_tree(tmp_path))
    check(said, settled, "/usr/bin/dash", "not a git work tree with a commit: fatal: bad object HEAD", "commit it")


def test_a_hypervisor_that_fails(settled: Station) -> None:
    """Its own words, and beside them the machine's console."""
    reference = settled.flake()
    settled.hypervisor(Scenario.ABORTS)
    said = settled.mvm("run", reference, "--", "true")
    assert said.code == 125
    check(said, settled, sys.executable, "failed to set MSR", "its console is in /", log=b"failed to set MSR")


@pytest.mark.parametrize("how", ["late", "fails", "missing"])
def test_nothing_of_a_secret_s_command_is_kept(settled: Station, programs: Programs, tmp_path: Path, how: str) -> None:
    settled.monkeypatch.setattr(resolve, "_PATIENCE", 0.3)
    settled.monkeypatch.setattr("mvmnix.launch.runtime.start.disable_core_dumps_and_tracing", lambda: None)
    text = "echo hunter2; echo hunter3 >&2; " + ("exec sleep 60" if how == "late" else "exit 1")
    program = programs.script(text)
    if how == "missing":
        programs.path.write_text("#!/proc/nonexistent/hunter2\n")
    reference = SimpleNamespace(name="A", source=SecretSource.COMMAND, target=SecretTarget.FILE, words=(program,))
    said = fail(settled, lambda: resolve.resolve_secrets([reference]))  # type: ignore[list-item]
    assert said.code == 126
    assert "refused [secret-unavailable]" in said.err
    assert "hunter" not in said.err
    assert "  log:  " not in said.err
    assert not (settled.state / "logs").exists()


def test_a_command_in_the_builder_vm_that_fails(settled: Station) -> None:
    """Nix has told the cause first, and of what followed from it most is left out."""
    log = "error: the cause\n" + "".join(f"and {number}\n" for number in range(1000))
    result = CommandResult(1, b"", log, ("/usr/bin/nix", "build", "--", *["/nix/store/x"] * 500))

    def build() -> None:
        raise result.failed_as(build_errors.of_build("path:/flake#x", log))

    said = fail(settled, build)
    assert len(said.err.splitlines()) <= MOST_LINES + 3
    assert "  error: the cause\n" in said.err
    assert "  and 999\n" in said.err.replace("        ", "")
    assert re.search(r"^  ran:  in the builder VM: /usr/bin/nix build .*\(status 1\)$", said.err, re.MULTILINE)
    assert "  next: " in said.err


@pytest.mark.parametrize("kind", list(Cause))
def test_each_cause_has_its_hint(kind: Cause) -> None:
    hint = hint_for(kind, "/usr/bin/thing")
    assert hint
    assert "{" not in hint
    assert ("install" in hint) is (kind is Cause.MISSING)
    assert hint_for(kind, "/usr/bin/thing", {kind: "do this"}) == "do this"


@pytest.mark.parametrize(
    ("status", "line", "kind"),
    [
        (-signal.SIGKILL, "", Cause.KILLED),
        (128 + signal.SIGKILL, "error: No space left on device", Cause.KILLED),
        (-signal.SIGSEGV, "", Cause.CRASHED),
        (128 + signal.SIGSYS, "", Cause.FILTERED),
        (128 + signal.SIGHUP, "usage: git", Cause.OWN),  # git's own status for that
        (1, "fatal: could not resolve host: x.test", Cause.NETWORK),
        (1, "bwrap: setting up uid map: Permission denied", Cause.NAMESPACES),
        (1, "error: writing: Disk quota exceeded", Cause.DISK_FULL),
        (1, "cat: /x: Permission denied", Cause.DENIED),
        (1, "fork: Resource temporarily unavailable", Cause.RESOURCES),
        (2, "Segmentation fault (core dumped)", Cause.CRASHED),
        (1, "", Cause.OWN),
    ],
)
def test_causes(status: int, line: str, kind: Cause) -> None:
    assert cause_of(status, line) is kind


def failure(said: bytes = b"error: x") -> ProcessError:
    return ProcessError(Completed(("/bin/x",), 1, b"", said))


def raising(error: Exception) -> Callable[[], None]:
    def provoke() -> None:
        raise error

    return provoke


def test_a_log_that_can_not_be_kept_is_told(settled: Station, tmp_path: Path) -> None:
    """No link is followed, and no other user's directory used; the failure is told all the same."""
    (tmp_path / "elsewhere").mkdir()
    (settled.state / "logs").symlink_to(tmp_path / "elsewhere")
    said = fail(settled, raising(failure()))
    assert said.code == 125
    assert "error: x" in said.err
    assert "  log:  not kept: " in said.err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_full_disk_takes_no_log(settled: Station) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    settled.monkeypatch.setattr(child_logs, "create", full)
    assert "  log:  not kept: No space left on device\n" in fail(settled, raising(failure())).err


def test_logs_are_bounded_in_number_and_size(settled: Station) -> None:
    settled.monkeypatch.setattr(child_logs, "MOST", 5)
    settled.monkeypatch.setattr(child_logs, "LARGEST", 1000)
    logs = settled.state / "logs"
    logs.mkdir(mode=0o700)
    for number in range(9):
        (logs / f"20200101T00000{number}Z-aaaaaa.log").touch(mode=0o600)
    (logs / "notes.txt").touch(mode=0o600)
    fail(settled, raising(failure(b"error: x" * 10_000)))
    left = sorted(path.name for path in logs.iterdir())
    assert len(left) == 6, "the newest, and what is no log"
    assert left[:4] == [f"20200101T00000{number}Z-aaaaaa.log" for number in range(5, 9)]
    assert (logs / left[4]).stat().st_size < 1100
    settled.monkeypatch.setattr(child_logs, "MOST_BYTES", 500)
    fail(settled, raising(failure()))
    assert len(list(logs.glob("*.log"))) == 1


def test_a_log_that_is_written_is_not_swept(settled: Station) -> None:
    settled.monkeypatch.setattr(child_logs, "MOST", 1)
    with settled.roots() as roots, roots.state.child("logs") as logs:
        held = logs.create_file("20200101T000000Z-aaaaaa.log")
        with os.fdopen(held, "wb"):
            fcntl.flock(held, fcntl.LOCK_EX)
            fail(settled, raising(failure()))
            assert logs.exists("20200101T000000Z-aaaaaa.log")
        fail(settled, raising(failure()))
        assert not logs.exists("20200101T000000Z-aaaaaa.log")


def test_the_child_behind_an_error() -> None:
    child_failure = failure()
    inner = MvmnixError("inner")
    inner.__cause__ = child_failure
    outer = MvmnixError("outer")
    outer.__cause__ = inner
    assert process.failed_child(outer) is child_failure
    assert process.failed_child(MvmnixError("alone")) is None
    inner.__cause__ = outer
    assert process.failed_child(outer) is None, "a circle ends"


def test_the_first_and_the_last_words_are_kept() -> None:
    words = process.BoundedOutput()
    for number in range(100_000):
        words.add(b"%06d\n" % number)
    assert words.kept.startswith(b"000000\n000001\n")
    assert words.kept.endswith(b"099999\n")
    assert b" bytes \xe2\x80\xa6" in words.kept
    assert len(words.kept) < 140_000
    few = process.BoundedOutput()
    few.add(b"few")
    assert few.kept == b"few"
