"""What the processes of a running machine use, as the kernel counts it in /proc; a look, which changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

from mvmnix.system.procfs import children, stat


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """By some processes together: their number and threads, processor milliseconds so far, resident memory in KiB.

    Resident memory counts a page once for each process that has it.
    """

    processes: int
    threads: int
    cpu_ms: int
    resident_kib: int


def by_process(process: int) -> ProcessUsage:
    """What one process uses; nothing when it is gone."""
    return _sum([process])


def by_descendants(process: int) -> ProcessUsage:
    """What the processes below this one use: below a supervisor, those of its hypervisor."""
    return _sum(_below(process))


def _below(process: int) -> Iterator[int]:
    """Its children and theirs."""
    for child in children(process):
        yield child
        yield from _below(child)


def _sum(processes: Iterator[int] | list[int]) -> ProcessUsage:
    found = [it for it in map(stat, processes) if it is not None]
    return ProcessUsage(
        len(found),
        sum(each.threads for each in found),
        sum(each.cpu_ms for each in found),
        sum(each.resident_kib for each in found),
    )
