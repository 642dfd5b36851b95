"""What a machine takes beside its guest's memory, by the kernel's proportional count, against QEMU started by hand."""

import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.commands import plan
from bench.pairs import spread
from bench.place import Place
from bench.raw_qemu import RawQemu
from mvmnix.api.context import Context
from mvmnix.machines import registry
from mvmnix.system.procfs import children
from mvmnix.system.roots import Roots

_SLEEP = ("/bin/busybox", "sleep", "1000")
#: Seconds after which a guest that does nothing has nothing left to do.
_SETTLED = 5


@dataclass(frozen=True, slots=True)
class Memory:
    """Proportional set sizes in MiB: of each kind of process, without the guest's own memory."""

    supervisor: float
    jail: float
    hypervisor: float

    @property
    def all(self) -> float:
        return self.supervisor + self.jail + self.hypervisor


def memory(place: Place, console: Console, *, rounds: int) -> None:
    """Print what both take, in turns."""
    signed = place.home.path / "memory.sigstore.json"
    signed.write_bytes(plan(place))
    raw = RawQemu.of(place.hello, *_SLEEP)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_ours(place, signed, raw.image.memory_mib))
        with raw.running() as process:
            time.sleep(_SETTLED)
            theirs.append(_beside(process, raw.image.memory_mib))
    _show(console, ours, theirs)


def _ours(place: Place, signed: Path, guest: int) -> Memory:
    machine = place.mvm("launch", "--detach", signed).stdout.decode().strip()
    time.sleep(_SETTLED)
    try:
        with Roots.from_environment(place.home.environment) as roots, Context(roots) as rooms:
            supervisor = registry.find_machine(rooms.machines, machine).supervisor or 0
        below = tuple(descendants(supervisor))
        hypervisor = max(below, key=lambda process: _beside(process, 0))
        jail = sum(_beside(process, 0) for process in below if process != hypervisor)
        return Memory(_beside(supervisor, 0), jail, _beside(hypervisor, guest))
    finally:
        place.mvm("kill", machine)


def descendants(process: int) -> Iterator[int]:
    """All processes whose parent is this one, or one of these."""
    for child in children(process):
        yield child
        yield from descendants(child)


def _beside(process: int, guest: int) -> float:
    """A process's PSS in MiB (proc_pid_smaps(5)), without the one mapping that is as large as the guest's memory."""
    total = 0
    size = 0
    for name, kib in re.findall(
        r"^(Size|Pss): +([0-9]+) kB$", Path(f"/proc/{process}/smaps").read_text(), re.MULTILINE
    ):
        if name == "Size":
            size = int(kib)
        elif size != guest * 1024:
            total += int(kib)
    return total / 1024


def _show(console: Console, ours: list[Memory], theirs: list[float]) -> None:
    title = f"MiB beside the guest's memory, medians of {len(ours)} machines in turns"
    table = Table("supervisor", "jail", "hypervisor", "all", "QEMU by hand", "ratio", "asked", title=title)
    medians = [
        statistics.median(getattr(m, name) for m in ours) for name in ("supervisor", "jail", "hypervisor", "all")
    ]
    ratios = [mine.all / other for mine, other in zip(ours, theirs, strict=True)]
    values = (*medians, statistics.median(theirs))
    table.add_row(*(f"{value:.1f}" for value in values), spread(ratios), "at most 1.15")
    console.print(table)
