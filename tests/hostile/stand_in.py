"""A stand-in for a hypervisor that was taken over, compiled once, and ways to start it in the jail or outside of it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import override
from unittest import mock
from zlib import crc32

from mvmnix.launch.runtime.vm_process import Guest, Preparation
from mvmnix.plan.backend import Backend
from mvmnix.sandbox.subordinate_ids import SubordinateIds, kept_namespace
from mvmnix.sandbox.trusted_executables import check_program
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.system.loop import Loop
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.confinement import Jail
from mvmnix.vmm.jail import root
from mvmnix.vmm.jail.jail import BubblewrapJail
from mvmnix.vmm.port import Acceleration, Hypervisor, Invocation, LaunchSpec
from mvmnix.vmm.qmp import QmpMonitor
from tests.patience import EVENT_PATIENCE

SOURCE = Path(__file__).with_name("taken_over.c")
PREFIX = "mvmnix-taken-over-"


@dataclass(frozen=True, slots=True)
class StandIn(Hypervisor):
    """The backend; `attacks` is what its program does."""

    program: str
    attacks: tuple[str, ...]

    @property
    @override
    def backend(self) -> Backend:
        return Backend.QEMU

    @property
    @override
    def firmware(self) -> tuple[str, ...]:
        return ()

    @property
    @override
    def files(self) -> tuple[str, ...]:
        return ()

    @override
    def emulation(self, acceleration: Acceleration) -> None:
        """None: it saves no guest."""

    @override
    def monitor(self) -> QmpMonitor:
        return QmpMonitor()

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        return Invocation((self.program, str(spec.console), str(spec.rootfs), *self.attacks), (), overhead_mib=64)


@contextmanager
def compiled() -> Iterator[str]:
    """The program, where everybody may read it."""
    directory = tempfile.mkdtemp(prefix=PREFIX)
    try:
        Path(directory).chmod(0o755)
        program = f"{directory}/taken_over"
        subprocess.run(["gcc", "-O1", "-static", "-pthread", "-o", program, str(SOURCE)], check=True)
        yield program
    finally:
        shutil.rmtree(directory)


def _part(path: Path, count: int) -> int:
    """Leases in a directory of a test's own have uids of their own: other tests run at the same time."""
    return 1 + crc32(bytes(path)) % count


def first_uid(path: Path) -> int:
    """The first uid of the host that sandboxes of this directory's have."""
    return _uids(path).first_uid


class RootIds(SubordinateIds):
    """Uids that nobody has, for tests of the network: as root they have a host's part in it too."""

    @override
    def namespace_of(self, uid: int) -> int:
        def write(process: int) -> None:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{process}/{name}").write_text(f"{uid} {uid} 1")

        return kept_namespace(("root", uid), write)


def _uids(path: Path) -> SubordinateIds:
    if os.geteuid() == 0:
        first = 1_950_000_000 + 4096 * _part(path, 1000)
        return RootIds(first, first, 4096, "", "")
    found, few = SubordinateIds.find(), 16
    begin = 256 + few * _part(path, (found.count - 256) // few - 1)
    return replace(found, first_uid=found.first_uid + begin, first_gid=found.first_gid + begin, count=few)


@contextmanager
def jail(path: Path, *, uids: bool = True) -> Iterator[BubblewrapJail]:
    """The jail as it is shipped, with sandboxes of its own; with `uids`, each has a subordinate one."""
    with ExitStack() as stack:
        leases, cache = (stack.enter_context(Directory.create(str(path / name))) for name in ("cells", "cache"))
        stack.enter_context(mock.patch.object(root, "check_program", _checked))
        yield BubblewrapJail(UidPool(leases, _uids(path) if uids else None), cache)


def _checked(program: str, seen: set[str] | None = None) -> str:
    """A plain user's tests can't make a program of root's; theirs counts as one, and no other."""
    own = Path(program).parent
    if own.name.startswith(PREFIX) and own.stat().st_uid == os.geteuid():
        return program
    return check_program(program, seen)


class Taken:
    """One that runs, and what it has said so far."""

    def __init__(self, guest: Guest, loop: Loop, said: bytearray) -> None:
        self.guest = guest
        self._loop = loop
        self._said = said

    def results(self) -> dict[str, int]:
        """By each attack's name, its errno."""
        pairs = (line.split() for line in self._said.decode().splitlines())
        return {name: int(failed) for name, failed in pairs}

    def wait_for(self, name: str) -> None:
        """Wait until it has come so far."""
        expired: list[None] = []
        timer = self._loop.after(EVENT_PATIENCE, lambda: expired.append(None))
        while name not in self.results() and not self.guest.process.ended and not expired:
            self._loop.turn()
        timer.cancel()
        assert name in self.results(), (self._said, self.guest.process.last_words)


@contextmanager
def taken_over(
    program: str, where: Jail, disk: Path, *attacks: str, percent: int | None = None, weight: int | None = None
) -> Iterator[Taken]:
    """Started with kernel, initrd and disk, as any hypervisor is; with a plan's processor time, if one is given."""
    said, loop = bytearray(), Loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        boot, root = os.memfd_create("boot"), os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
        spec = LaunchSpec(boot, boot, root, -1, -1, -1, 1, 64, "quiet", Acceleration.TCG, 2_000_000)
        spec = replace(spec, cpu_percent=percent, cpu_weight=weight)
        preparation = Preparation(StandIn(program, attacks), where, spec)
        guest = preparation.spawn(loop, console=said.extend, services={})
        stack.callback(guest.close)
        guest.process.entered()  # as when its receipt is begun
        for fd in (boot, root):
            os.close(fd)
        yield Taken(guest, loop, said)


def tried(program: str, where: Jail, disk: Path, *attacks: str) -> dict[str, int]:
    """What came of each attack."""
    with taken_over(program, where, disk, *attacks) as it:
        it.guest.settle(EVENT_PATIENCE)
        it.guest.close()
        assert it.results(), it.guest.process.last_words
        return it.results()
