"""A receipt, and what a host observed for it."""

from datetime import timedelta

from mvmnix.digest import Digest
from mvmnix.machines.ending import EndReason
from mvmnix.machines.exit_status import End, ExitStatus, Step
from mvmnix.machines.receipt import HostFile, Observed, Receipt
from mvmnix.plan.kernel_command_line import Addition, BackendParameter
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.vmm.confinement import IsolationLayer
from mvmnix.vmm.port import Acceleration, Usage
from tests.unit.provenance.world import NOW

OBSERVED = Observed(
    machine="0123456789ab",
    started=NOW,
    ready=NOW + timedelta(seconds=2),
    ended=NOW + timedelta(seconds=9),
    accelerator=Acceleration.TCG,
    hypervisor=HostFile("/usr/bin/qemu-system-x86_64", Digest.of(b"qemu")),
    firmware=(HostFile("/usr/share/qemu/qboot.rom", Digest.of(b"qboot")),),
    additions=(Addition(BackendParameter.TSC_EARLY_KHZ, 2_399_998), Addition(BackendParameter.TSC, "reliable")),
    reason=EndReason.GUEST_EXIT,
    corruption=None,
    start_record=17,
    usage=Usage(1203, 45, 215_000),
    console_bytes=29_111,
    confinement=(IsolationLayer.NAMESPACES, IsolationLayer.SECCOMP),
)
RECEIPT = Receipt(
    subjects=(Subject("kernel", Digest.of(b"kernel")),),
    plan=Digest.of(b"plan"),
    provenance=Digest.of(b"provenance"),
    policy=Digest.of(b"policy"),
    observed=OBSERVED,
    reported=ExitStatus(End.EXITED, Step.NONE, 3),
)
