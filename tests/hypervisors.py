"""Which hypervisors run for a home: found by their ancestors, as their own uid alone sees what they have open."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mvmnix.machines.machine_dir import LOCK
from mvmnix.system import procfs
from mvmnix.system.private_dirs import Directory
from tests.conftest import Home


def hypervisors(home: Home) -> list[int]:
    """Those that a supervisor of this home's started, and those that have none any more, whosever they were."""
    supervisors = set(_supervisors(home))
    return [process for process, starter in _all() if starter in supervisors or starter is None]


def supervisor(home: Home, machine: str) -> int | None:
    """Who holds the machine's lock, by the kernel's word; None where it has ended."""
    with suppress(FileNotFoundError), Directory.open(str(home.state / "machines" / machine)) as directory:
        return directory.holder(LOCK)
    return None


def _supervisors(home: Home) -> Iterator[int]:
    for path in filter(Path.is_dir, (home.state / "machines").glob("*")):
        holder = supervisor(home, path.name)
        if holder is not None:
            yield holder


def _all() -> Iterator[tuple[int, int | None]]:
    """Each, and the process above what made its sandbox; None where that is the system's first."""
    for path in Path("/proc").glob("[0-9]*"):
        found = procfs.stat(int(path.name))
        if found is None or not found.name.startswith("qemu-system") or found.state == "Z":
            continue
        above = procfs.stat(starter := found.parent)
        while above is not None and above.name == "bwrap":
            above = procfs.stat(starter := above.parent)
        yield int(path.name), None if starter <= 1 else starter
