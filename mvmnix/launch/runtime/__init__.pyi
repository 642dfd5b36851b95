from mvmnix.launch.runtime.accelerator import (
    KvmProbe,
    KvmVerdict,
    accelerator_line,
    known_verdicts,
    kvm_access_hint,
)
from mvmnix.launch.runtime.creation import check_creation, create_home, start_home
from mvmnix.launch.runtime.finalize import Ended, RunObservations, conclude, end_failure, never_ran
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import begin_start, refusals_logged, start_machine
from mvmnix.launch.runtime.supervisor import StopRequestedError, SupervisedEnd, detach, stopping_signals, supervise

__all__ = [
    "Ended",
    "Host",
    "KvmProbe",
    "KvmVerdict",
    "Machine",
    "RunObservations",
    "StopRequestedError",
    "SupervisedEnd",
    "accelerator_line",
    "begin_start",
    "check_creation",
    "conclude",
    "create_home",
    "detach",
    "end_failure",
    "known_verdicts",
    "kvm_access_hint",
    "never_ran",
    "refusals_logged",
    "start_home",
    "start_machine",
    "stopping_signals",
    "supervise",
]
