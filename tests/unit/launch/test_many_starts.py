"""Thirty starts in a row by one process, with a hypervisor that is none: nothing grows but the log."""

import gc
import os
from dataclasses import dataclass
from pathlib import Path

from mvmnix.launch.runtime.host import Host
from mvmnix.machines import registry
from mvmnix.system import procfs as proc
from tests.unit.launch.house import House, house, nowhere, run_foreground

STARTS = 30
#: Those before the counting begins: what is made once is there then.
WARM = 2
#: KiB: an allocator settles after some 90 starts, at 8 MiB more than after two. Half a MiB each is noticed here.
PLAY = 12288


@dataclass(frozen=True, slots=True)
class Held:
    """What the process and its directories hold, the audit log left out."""

    descriptors: int
    children: frozenset[int]
    files: tuple[str, ...]

    @classmethod
    def by(cls, here: House) -> "Held":
        gc.collect()
        kept = [path.relative_to(here.path) for path in here.path.rglob("*")]
        files = tuple(sorted(str(path) for path in kept if path.parts[0] != "audit"))
        return cls(len(list(Path("/proc/self/fd").iterdir())), frozenset(proc.children(os.getpid())), files)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def once(here: House, host: Host) -> None:
    with here.verified() as plan:
        assert run_foreground(plan, host, stdout=nowhere, stderr=nowhere).exit_code == 0
    (entry,) = registry.list_entries(host.machines)
    registry.remove(host.machines, entry.status.machine)


def test_nothing_grows(tmp_path: Path) -> None:
    gc.collect()  # what other tests let go of is let go of now, and not meanwhile
    with house(tmp_path / "house") as here:
        host, before = here.host(), Held.by(here)
        here.plan("true").close()
        for _ in range(WARM):
            once(here, host)
        first, memory, seen = Held.by(here), resident(), list[Held]()
        for number in range(WARM, STARTS):
            once(here, host)
            if number % 7 == 0:
                seen.append(Held.by(here))
        assert [(it.descriptors, it.files) for it in seen] == [(first.descriptors, first.files)] * 4
        assert seen[-1].children <= before.children, "what other tests have started may end meanwhile"
        assert resident() < memory + PLAY
        host.loop.close()
