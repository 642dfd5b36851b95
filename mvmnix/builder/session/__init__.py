"""One session with the builder VM: its argument lists, its questions, and what comes out of it."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "archive": "ArchiveReader BLOCK Receiver",
        "build": "Build BuildRecord PartsWantedError",
        "build_errors": "last_lines",
        "cache": "Connection",
        "exec": "BuilderMachine CommandResult KEPT_OUTPUT Progress run_command",
        "import_outputs": "OUTPUTS OutputImport",
        "ledger": "Offer OfferLedger",
        "parts": "ATTRIBUTE PartsBuild PartsRecord",
        "session": "BuildInputs BuildRequest",
        "worker_pool": "Threads WorkerPool",
    },
    modules=["graph", "import_outputs"],
)
