from mvmnix.launch.vmm.boot_files import BootFiles, OpenFiles, read_only, releasable_copy, sealed_copy, verity_reasons
from mvmnix.launch.vmm.boot_watchdog import BootWatchdog, Sample, StallReason
from mvmnix.launch.vmm.confinement import (
    SHARE_PLACE,
    IsolationLayer,
    Jail,
    NetworkService,
    ProcessSandbox,
    Service,
    ServiceSandbox,
)
from mvmnix.launch.vmm.console import CONSOLE_LIMIT, BoundedLog
from mvmnix.launch.vmm.port import (
    Acceleration,
    Attachment,
    DataAttachment,
    Hypervisor,
    Invocation,
    LaunchSpec,
    Monitor,
    MonitorEvent,
    NetworkAttachment,
    Usage,
)
from mvmnix.launch.vmm.process import HypervisorProcess
from mvmnix.launch.vmm.qmp import QmpMonitor
from mvmnix.launch.vmm.scheduling import Scheduling
from mvmnix.launch.vmm.service_process import ServiceProcess
from mvmnix.launch.vmm.tsc import TscClock

__all__ = [
    "CONSOLE_LIMIT",
    "SHARE_PLACE",
    "Acceleration",
    "Attachment",
    "BootFiles",
    "BootWatchdog",
    "BoundedLog",
    "DataAttachment",
    "Hypervisor",
    "HypervisorProcess",
    "Invocation",
    "IsolationLayer",
    "Jail",
    "LaunchSpec",
    "Monitor",
    "MonitorEvent",
    "NetworkAttachment",
    "NetworkService",
    "OpenFiles",
    "ProcessSandbox",
    "QmpMonitor",
    "Sample",
    "Scheduling",
    "Service",
    "ServiceProcess",
    "ServiceSandbox",
    "StallReason",
    "TscClock",
    "Usage",
    "read_only",
    "releasable_copy",
    "sealed_copy",
    "verity_reasons",
]
