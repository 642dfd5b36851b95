"""mvm: from a pinned flake to a verified, running microVM; its names are those of the SDK, imported when first used."""

__version__ = "0.1.0"
#: The module of each name (PEP 562): a program that imports mvmnix pays for what it uses alone.
_MODULES = {
    "launch.agent.file_entries": ("FileEntry", "FileKind"),
    "plan.data_disk": ("DataDisk",),
    "sdk.blocking": ("Files", "Sandbox", "initialize"),
    "sdk.blocking_commands": ("Process", "Reader", "Stream", "Writer"),
    "sdk.blocking_images": ("Audit", "Image", "Plan", "Pool", "Snapshot", "verify"),
    "sdk.images": ("AuditReport", "Verdict"),
    "sdk.errors": (
        *("Cause", "CommandFailed", "Error", "FileExists", "FileFailed", "FileForbidden", "FileIsDirectory"),
        *("FileNotDirectory", "FileNotFound", "GuestFailed", "InvalidArgument", "NotFound", "NotGranted", "NotRunning"),
        *("NotVerified", "OutcomeUnknown", "OutputLimitExceeded", "PolicyRefused", "Refused", "SetupMissing"),
        *("TimedOut", "Unreachable"),
    ),
    "sdk.results": ("ExitEvent", "LogPiece", "MachineEnd", "MachineInfo", "OutputEvent", "Result", "Template"),
    "sdk.values": ("Allow", "Deny", "Preset", "Publish", "Secret", "Share"),
}
__all__ = ["aio", *(name for names in _MODULES.values() for name in names)]  # noqa: PLE0604 - names, by module


def __getattr__(name: str) -> object:
    import importlib  # noqa: PLC0415 - importing this package alone costs next to nothing

    if name == "aio":
        return importlib.import_module("mvmnix.aio")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"mvmnix.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
