"""Looks at what a saved guest depends on, on this host: what a snapshot says, and what it is held against later."""

from mvmnix.errors import ReasonCode, refuse
from mvmnix.keys import PublicKey
from mvmnix.launch.gate.snapshot import HostFacts
from mvmnix.machines.receipt import HostFile
from mvmnix.sandbox import trusted_executables
from mvmnix.system.procfs import boot_id
from mvmnix.vmm.port import Acceleration, Hypervisor
from mvmnix.vmm.tsc import TscClock


def programs_of(hypervisor: Hypervisor, executable: str) -> tuple[HostFile, ...]:
    """Return the hypervisor's executable and all that it reads by name when it starts, by their digests."""
    return tuple(HostFile(path, trusted_executables.digest(path)) for path in (executable, *hypervisor.files))


def host_facts(hypervisor: Hypervisor, key: PublicKey, tsc: TscClock) -> HostFacts:
    """Return this host as it is now. Raises RefusedError [snapshot-host] where its hypervisor can't restore guests."""
    emulation = hypervisor.emulation(Acceleration.TCG)
    if emulation is None:
        hint = "start a machine that boots"
        raise refuse(ReasonCode.SNAPSHOT_HOST, "the hypervisor", "it can't restore guests", hint)
    programs = programs_of(hypervisor, emulation.program)
    return HostFacts(key, boot_id(), tsc.khz(), programs, emulation.machine, emulation.processor)
