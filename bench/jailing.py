"""Starts QEMU in the jail and outside of it, in turns, until it is ready, and a helper in the sandbox and outside."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.measurement import Figure, in_turns_with
from bench.pairs import pair
from mvmnix.launch.runtime.vm_process import Preparation
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.system.loop import Loop
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import environment, run
from mvmnix.vmm.confinement import Jail
from mvmnix.vmm.jail.jail import BubblewrapJail
from mvmnix.vmm.port import Acceleration, LaunchSpec
from mvmnix.vmm.qemu import Qemu
from tests.unit.launch.null_sandbox import NullJail

TRUE = Candidates("true", ("/usr/bin/true",), "apt-get install coreutils")


def jailing(*, rounds: int) -> Iterator[Figure]:
    """What the jail adds to a start, and the sandbox to a helper's."""
    with ExitStack() as stack:
        base = stack.enter_context(tempfile.TemporaryDirectory(prefix="mvmnix-bench-"))
        leases, cache = (stack.enter_context(Directory.create(f"{base}/{name}")) for name in ("cells", "cache"))
        jail = BubblewrapJail(UidPool(leases), cache)
        firmware = Path(Qemu.find().bios).read_bytes()
        found = pair(_started(jail, firmware), _started(NullJail(), firmware), rounds=10 * rounds)
    what = "QEMU from nothing to its first event, and ended again, in the jail"
    yield in_turns_with(what, "outside of it", found, unit="ms")
    env = environment(())
    helper = pair(lambda: Sandbox().run(TRUE), lambda: run(TRUE.paths, env=env), rounds=10 * rounds)
    what = "a helper that does nothing, from its start to its end, in the sandbox"
    yield in_turns_with(what, "outside of it", helper, unit="ms")


def _started(jail: Jail, bytes_: bytes) -> Callable[[], None]:
    """Something to hand to QEMU as a kernel, which is not run before it is ended."""

    def start() -> None:
        loop, file = Loop(), os.memfd_create("bench")
        os.write(file, bytes_)
        spec = LaunchSpec(file, file, None, -1, -1, -1, 1, 128, "quiet", Acceleration.TCG, 2_000_000)
        guest = Preparation(Qemu.find(), jail, spec).spawn(loop, console=lambda _: None, services={})
        while not guest.events and not guest.process.ended:
            loop.turn()
        guest.close()
        loop.close()
        os.close(file)

    return start
