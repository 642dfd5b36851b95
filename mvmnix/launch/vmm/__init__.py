"""What a hypervisor answers to, and its process: chosen, started, watched and recorded."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "boot_files": "BootFiles OpenFiles read_only releasable_copy sealed_copy verity_reasons",
        "boot_watchdog": "BootWatchdog Sample StallReason",
        "confinement": "IsolationLayer Jail NetworkService ProcessSandbox Service ServiceSandbox SHARE_PLACE",
        "console": "BoundedLog CONSOLE_LIMIT",
        "port": (
            "Acceleration Attachment DataAttachment Hypervisor Invocation LaunchSpec Monitor MonitorEvent"
            " NetworkAttachment Usage"
        ),
        "process": "HypervisorProcess",
        "qmp": "QmpMonitor",
        "scheduling": "Scheduling",
        "service_process": "ServiceProcess",
        "tsc": "TscClock",
    },
)
