"""Starts machines in a row and all at once, and counts what this host holds of them before, in between and after.

Cold ones are started in this process; warm ones by the user's launcher, which holds their template.
"""

import gc
import os
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from bench.pairs import timed
from mvmnix import Sandbox
from mvmnix.api.admission import admit_plan, host_for
from mvmnix.api.audit_check import read_receipt
from mvmnix.api.files import file_bytes
from mvmnix.api.frontend import SILENT
from mvmnix.api.machine_store import put_in_order
from mvmnix.images.store import STATEMENT_LIMIT
from mvmnix.launch.means import OwnMeans
from mvmnix.machines import registry
from mvmnix.machines.ending import EndReason
from mvmnix.machines.receipt import Receipt
from mvmnix.sandbox import uid_pool_paths
from mvmnix.system import procfs
from mvmnix.system.private_dirs import Directory
from tests.conftest import Home, World
from tests.hypervisors import hypervisors
from tests.patience import PATIENCE, scaled, until
from tests.unit.launch.house import run_foreground
from tests.vm.machines import done, inside
from tests.workbench import rooms_of

#: MiB; 64 is too little for the kernel.
MEMORY = "96"
#: What is started first, so that what is loaded and made once is there when the counting begins.
WARM = 3


@dataclass(frozen=True, slots=True)
class Held:
    """What is held: by this process, and on the host. Memory in KiB.

    `files` are those of the user's state, machines' directories, sockets, locks and temporary files among them, but for
    the audit log and logs of failures, which grow by what they are for, and for launchers, which come and go;
    `hypervisors` are the user's; `left` leases that no process holds.
    """

    descriptors: int
    resident: int
    files: int
    hypervisors: int
    mounts: int
    left: int

    @classmethod
    def by(cls, home: Home) -> "Held":
        gc.collect()  # what other tests of this process let go of
        statm = Path("/proc/self/statm").read_text().split()
        paths = [
            path
            for path in home.state.rglob("*")
            if not {"audit", "logs", "launchers"} & {*path.relative_to(home.state).parts}
        ]
        kept = [path for path in paths if not path.is_dir() or path.parent.name == "machines"]
        return cls(
            descriptors=sum(not _is_namespace(path) for path in Path("/proc/self/fd").iterdir()),
            resident=int(statm[1]) * os.sysconf("SC_PAGE_SIZE") // 1024,
            files=len(kept),
            hypervisors=len(hypervisors(home)),
            mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
            left=len(_left_for_good(home.state)),
        )

    @property
    def but_memory(self) -> dict[str, int]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "resident"}


@dataclass(frozen=True, slots=True)
class LauncherHeld:
    """What a launcher holds that may be looked into (bench/memory.py, `readable_launcher`). Private memory in KiB."""

    descriptors: int
    memfds: int
    threads: int
    children: int
    private: int

    @classmethod
    def by(cls, launcher: int) -> "LauncherHeld":
        until(lambda: not list(procfs.children(launcher)), seconds=PATIENCE)  # supervisors write their last words
        links = [str(path.readlink()) for path in Path(f"/proc/{launcher}/fd").iterdir()]
        sizes = Path(f"/proc/{launcher}/smaps_rollup").read_text().splitlines()
        return cls(
            descriptors=len(links),
            memfds=sum(link.startswith("/memfd:") for link in links),
            threads=len(list(Path(f"/proc/{launcher}/task").iterdir())),
            children=len(list(procfs.children(launcher))),
            private=sum(int(line.split()[1]) for line in sizes if line.startswith("Private_")),
        )

    @property
    def but_memory(self) -> dict[str, int]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "private"}


def _left(state: Path) -> set[str]:
    """Leases that no process holds: others' machines may come and go meanwhile. They list control groups."""
    found = set[str]()
    for path in uid_pool_paths.pool_paths(str(state)):
        with suppress(FileNotFoundError), Directory.open(path) as leases:
            free = (name for name in leases.names() if leases.holder(f"{name.partition('.')[0]}.lock") is None)
            found |= {f"{path}/{name}" for name in free}
    return found


def _left_for_good(state: Path) -> set[str]:
    """The same, without what is just being made or removed."""
    found = _left(state)
    if found:
        time.sleep(scaled(1))
        found &= _left(state)
    return found


def signed_plan(home: Home, tree: Path, where: Path, *command: str) -> Path:
    """A signed plan for examples/hello, for as many machines as somebody starts within a day."""
    return home.signed_plan(where, "--memory", MEMORY, "./examples/hello", "--", *command, cwd=tree)


def in_a_row(world: World, bundle: Path, starts: int, *, looks: int = 10) -> list[Held]:
    """Verify, boot, run and end so many machines, each removed before the next, all of it in this process.

    Returns what is held after the first few, and then at equal distances.
    """
    found = list[Held]()
    marks = {WARM + (starts - WARM) * number // looks for number in range(looks + 1)}
    for number in range(1, starts + 1):
        _once(world, bundle)
        if number in marks:
            found.append(Held.by(world.home))
    return found


def _once(world: World, bundle: Path) -> None:
    said = bytearray()
    with rooms_of(world) as rooms, rooms.roots:
        put_in_order(rooms.roots, rooms.machines, SILENT)
        with admit_plan(rooms, file_bytes(str(bundle), STATEMENT_LIMIT)) as plan:
            host = host_for(rooms, plan, OwnMeans())
            finished = run_foreground(plan, host, stdout=said.extend, stderr=said.extend)
        assert (finished.exit_code, finished.ended.reason) == (0, EndReason.GUEST_EXIT), said
        for entry in registry.list_entries(rooms.machines):
            registry.remove(rooms.machines, entry.status.machine)


def open_plan(home: Home, where: Path, flake: str) -> Path:
    """A signed plan for a guest that takes commands, for as many machines as somebody starts within a day."""
    command = ("--", "/bin/busybox", "sleep", "3600")
    return home.signed_plan(where, "--memory", MEMORY, "--verb", "exec", flake, *command)


def saved_machine(world: World, where: Path, flake: str) -> tuple[str, str]:
    """A machine that runs, and a snapshot of it: both ids."""
    command = ("--", "/bin/busybox", "sleep", "3600")
    verbs = ("--verb", "exec", "--verb", "snapshot")
    plan = world.home.signed_plan(where, "--memory", MEMORY, *verbs, flake, *command)
    machine = done(world, "launch", "--detach", plan)
    return machine, done(world, "snapshot", "create", machine)


def restored(world: World, snapshot: str) -> None:
    """Have a machine go on from a snapshot, run a command in it, end and remove it."""
    machine = done(world, "restore", snapshot)
    assert inside(world, machine, "echo restored") == "restored"
    done(world, "kill", machine)
    done(world, "rm", machine)


def make_template(home: Home, flake: str) -> str:
    """Make the template that machines of `open_plan` start from; returns the id of its machine, which is removed."""
    made = home.mvm("warm", "--memory", MEMORY, flake)
    assert made.returncode == 0, made.stderr.decode()
    machine = made.stdout.decode().strip()
    assert home.mvm("rm", machine).returncode == 0
    return machine


@dataclass(frozen=True, slots=True)
class WarmStart:
    """One start: seconds until a command had run, and the machine that left its template, "" for a cold start."""

    seconds: float
    template: str


def warm_start(world: World, bundle: Path) -> WarmStart:
    """Have the launcher start a machine, run a command in it, end and remove it. `Sandbox` is this process's user's."""
    boxes = list[Sandbox]()
    with ExitStack() as running:

        def start() -> None:
            boxes.append(running.enter_context(Sandbox.launch(bundle)))
            assert boxes[0].exec(("/bin/busybox", "echo", "warm")).stdout == b"warm\n"

        seconds = timed(start)
    receipt = taken_receipt(world, boxes[0].id)
    assert receipt.observed.reason == EndReason.STOPPED
    return WarmStart(seconds, receipt.observed.template or "")


def taken_receipt(world: World, machine: str) -> Receipt:
    """Return the receipt of a machine that has ended, verified; nothing of that machine is left."""
    with rooms_of(world) as rooms, rooms.roots:
        receipt = read_receipt(rooms, machine)
        registry.remove(rooms.machines, machine)
    return receipt


def at_once(home: Home, bundle: Path, count: int) -> list[str]:
    """Start so many machines at the same time, each by a command of its own; their ids."""
    starting = [home.start("launch", "--detach", bundle) for _ in range(count)]
    return [_ended(process).strip() for process in starting]


def stopped_at_once(home: Home, machines: list[str]) -> None:
    """Stop these at the same time, each by a command of its own."""
    for process in [home.start("stop", "--patience", str(PATIENCE), machine) for machine in machines]:
        _ended(process)


def _ended(process: "subprocess.Popen[bytes]") -> str:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err.decode()
    return out.decode()


def _is_namespace(descriptor: Path) -> bool:
    """Whether it is one of the user namespaces that are kept, some dozens at most (sandbox/subordinate_ids.py)."""
    with suppress(FileNotFoundError):
        return str(descriptor.readlink()).startswith("user:")
    return False
