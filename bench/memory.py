"""What a machine takes beside its guest's memory, by the kernel's proportional count, against QEMU started by hand."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.commands import plan
from bench.measurement import Figure
from bench.place import Place
from bench.raw_qemu import RawQemu
from mvmnix.api.context import Context
from mvmnix.api.launchers import list_launchers
from mvmnix.launch.control import launcher_socket
from mvmnix.machines import registry
from mvmnix.system import process
from mvmnix.system.process_identity import ProcessIdentity
from mvmnix.system.procfs import children
from mvmnix.system.roots import Roots

_SLEEP = ("/bin/busybox", "sleep", "1000")
#: Seconds after which a guest that does nothing has nothing left to do.
SETTLED = 5
#: The launcher's own program, which hides neither its memory nor its forks' from this user (PR_SET_DUMPABLE).
_LAUNCHER = """
import sys
sys.path.insert(0, sys.argv[1])
from mvmnix.launcher import main
from mvmnix.system import prctl
prctl.set_dumpable = lambda *, dumpable: None
main.main("shared", *sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """Proportional set sizes in MiB: of each kind of process, without the guest's own memory."""

    supervisor: float
    jail: float
    hypervisor: float

    @property
    def all(self) -> float:
        return self.supervisor + self.jail + self.hypervisor


def memory(place: Place, *, rounds: int) -> Iterator[Figure]:
    """What both take, in turns."""
    signed = place.home.path / "memory.sigstore.json"
    signed.write_bytes(plan(place))
    raw = RawQemu.of(place.hello, *_SLEEP)
    ours, theirs = [], []
    with readable_launcher(place):
        for _ in range(rounds):
            ours.append(_ours(place, signed, raw.image.memory_mib))
            with raw.running() as qemu:
                time.sleep(SETTLED)
                theirs.append(_beside(qemu, raw.image.memory_mib))
    for name in ("supervisor", "jail", "hypervisor"):
        yield Figure(f"{name}, beside the guest's memory", "MiB", tuple(getattr(each, name) for each in ours))
    both = tuple(each.all for each in ours), "QEMU by hand", tuple(theirs)
    yield Figure("all of a machine, beside the guest's memory", "MiB", *both, "ratio at most 1.15")


@contextmanager
def readable_launcher(place: Place) -> Iterator[int]:
    """The launcher of the place's user, by its process id; started as a caller starts it. Raises RuntimeError."""
    place.mvm("launcher", "stop")
    with Roots.from_environment(place.home.environment) as roots:
        variables = launcher_socket.kept_variables(place.home.environment, roots)
        key = launcher_socket.launcher_key(ProcessIdentity.read(os.getpid()), roots, place.home.environment)
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as told:
            argv = (sys.executable, "-I", "-c", _LAUNCHER, str(Path(process.__file__).parents[2]), key, str(writing))
            null = subprocess.DEVNULL
            environment = {**variables, **process.FIXED}
            subprocess.run(
                argv, env=environment, cwd="/", stdin=null, stdout=null, stderr=null, pass_fds=(writing,), check=True
            )
            os.close(writing)
            if (words := told.read()) != b"ready\n":
                raise RuntimeError(f"no launcher: {words.decode()}")
        (launcher,) = list_launchers(roots)
    try:
        yield launcher.process
    finally:
        place.mvm("launcher", "stop")


def _ours(place: Place, signed: Path, guest: int) -> Memory:
    machine = place.mvm("launch", "--detach", signed).stdout.decode().strip()
    time.sleep(SETTLED)
    try:
        supervisor = supervisor_of(place, machine)
        below = tuple(descendants(supervisor))
        hypervisor = max(below, key=lambda each: _beside(each, 0))
        jail = sum(_beside(each, 0) for each in below if each != hypervisor)
        return Memory(_beside(supervisor, 0), jail, _beside(hypervisor, guest))
    finally:
        place.mvm("kill", machine)


def supervisor_of(place: Place, machine: str) -> int:
    """The process id of a running machine's supervisor."""
    with Roots.from_environment(place.home.environment) as roots, Context(roots) as rooms:
        return registry.find_machine(rooms.machines, machine).supervisor or 0


def descendants(parent: int) -> Iterator[int]:
    """All processes whose parent is this one, or one of these."""
    for child in children(parent):
        yield child
        yield from descendants(child)


def hypervisor_of(supervisor: int) -> int:
    """The process id of the QEMU below the two processes of a supervisor's sandbox."""
    found = supervisor
    while below := list(children(found)):
        found = below[0]
    return found


def _beside(pid: int, guest: int) -> float:
    """A process's PSS in MiB (proc_pid_smaps(5)), without the one mapping that is as large as the guest's memory."""
    total = 0
    size = 0
    for name, kib in re.findall(r"^(Size|Pss): +([0-9]+) kB$", Path(f"/proc/{pid}/smaps").read_text(), re.MULTILINE):
        if name == "Size":
            size = int(kib)
        elif size != guest * 1024:
            total += int(kib)
    return total / 1024


def sizes(rollup: str) -> dict[str, float]:
    """What smaps_rollup says (proc_pid_smaps(5)), in MB."""
    return {name: int(kib) * 1024 / 1e6 for name, kib in re.findall(r"^(\w+): +([0-9]+) kB$", rollup, re.MULTILINE)}


def sizes_of(pid: int) -> dict[str, float]:
    """The same of a process."""
    return sizes(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8"))


def private(found: dict[str, float]) -> float:
    """What is a process's alone, in MB."""
    return sum(size for name, size in found.items() if name.startswith("Private"))
