"""What snapshots, restores and forks take for a guest with 128 MiB in use, against QEMU saved by hand."""

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.commands import plan
from bench.measurement import Figure, in_time
from bench.memory import hypervisor_of, private, sizes_of, supervisor_of
from bench.pairs import Pair, in_turns
from bench.place import Place
from bench.raw_qemu import RawQemu
from bench.raw_snapshot import RawSnapshot

_MEMORY: Final = "256M"
#: Uses 96 MiB, beside what the guest has in use after its boot; random, as what is worth a snapshot isn't zero.
_FILL: Final = ("/bin/busybox", "dd", "if=/dev/urandom", "of=/tmp/filled", "bs=1M", "count=96")
_SLEEP: Final = ("/bin/busybox", "sleep", "100000")
_SCRATCH_MIB: Final = 128
_GRANTED: Final = ("--verb", "exec", "--verb", "snapshot", "--memory", _MEMORY, "--scratch", f"{_SCRATCH_MIB}M")
_FORKS: Final = 10
_CREATE, _RESTORE = "mvm snapshot create", "mvm restore"
_RAW_CREATE, _RAW_RESTORE = "saved by hand", "restored by hand"


def snapshots(place: Place, *, rounds: int, starts: int) -> Iterator[Figure]:
    """Times, sizes and memory; `starts` machines are restored in a row, and each is ended."""
    signed = place.home.path / "snapshots.sigstore.json"
    signed.write_bytes(plan(place, *_SLEEP, options=_GRANTED))
    exported = place.home.path / "open"
    if not exported.exists():
        place.mvm("build", f"path:{place.tree}?dir=guests/open", "--out", exported)
    machine = _said(place, "launch", "--detach", signed)
    place.mvm("exec", machine, *_FILL)
    with tempfile.TemporaryDirectory() as directory, RawSnapshot(_raw(exported), Path(directory), _FILL) as raw:
        yield from _times(place, machine, raw, rounds)
    yield from _forks(place, machine, rounds)
    yield from _in_a_row(place, machine, starts)
    place.mvm("kill", machine)


def _raw(exported: Path) -> RawQemu:
    raw = RawQemu.of(exported, *_SLEEP)
    return replace(raw, image=replace(raw.image, scratch_mib=_SCRATCH_MIB))


def _said(place: Place, *words: str | Path) -> str:
    return place.mvm(*words).stdout.decode().strip()


def _times(place: Place, machine: str, raw: RawSnapshot, rounds: int) -> Iterator[Figure]:
    made, machines = list[str](), list[str]()

    def tidy(_: str) -> None:
        if machines:
            place.mvm("kill", *machines)
            machines.clear()
        for each in made[:-1]:
            place.mvm("snapshot", "rm", each)
        del made[:-1]

    found = in_turns(
        {
            _CREATE: lambda: made.append(_said(place, "snapshot", "create", machine)),
            _RAW_CREATE: raw.save,
            _RESTORE: lambda: machines.append(_said(place, "restore", made[-1])),
            _RAW_RESTORE: raw.restore,
        },
        rounds=rounds,
        prepare=tidy,
    )
    tidy("")
    for ours, theirs in ((_CREATE, _RAW_CREATE), (_RESTORE, _RAW_RESTORE)):
        pair = Pair(found[ours], found[theirs])
        yield Figure(ours, "s", pair.ours.seconds, theirs, pair.theirs.seconds, "difference at most 0.3")
    (claim,) = (it for it in json.loads(_said(place, "snapshot", "ls", "--json"))["result"] if it["id"] == made[0])
    used = _in_use(place, machine)
    yield Figure("sealed file", "MB", (claim["size"] / 1e6,), "memory in use", (used,), "ratio at most 1.1")
    place.mvm("snapshot", "rm", made[0])


def _in_use(place: Place, machine: str) -> float:
    """MB of a guest's memory that were ever written: what its hypervisor has of the memfd."""
    return sizes_of(hypervisor_of(supervisor_of(place, machine)))["Pss_Shmem"]


def _forks(place: Place, machine: str, rounds: int) -> Iterator[Figure]:
    seconds, memory = list[float](), list[float]()
    for _ in range(min(rounds, 3)):
        begin = time.monotonic()
        forked = _said(place, "fork", machine, "-n", str(_FORKS)).split()
        seconds.append(time.monotonic() - begin)
        memory += [private(sizes_of(hypervisor_of(supervisor_of(place, each)))) for each in forked]
        place.mvm("kill", *forked)
    yield in_time(f"mvm fork -n {_FORKS}", seconds, "at most 3 s", unit="s")
    yield Figure("private memory of a fork's hypervisor", "MB", tuple(memory))


def _in_a_row(place: Place, machine: str, starts: int) -> Iterator[Figure]:
    snapshot, seconds = _said(place, "snapshot", "create", machine), list[float]()
    for _ in itertools.repeat(None, starts):
        begin = time.monotonic()
        restored = _said(place, "restore", snapshot)
        seconds.append(time.monotonic() - begin)
        place.mvm("kill", restored)
    place.mvm("snapshot", "rm", snapshot)
    yield in_time(f"{starts} restores in a row", seconds, unit="s")
