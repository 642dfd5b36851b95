from mvmnix.builder.session import graph, import_outputs
from mvmnix.builder.session.archive import BLOCK, ArchiveReader, Receiver
from mvmnix.builder.session.build import Build, BuildRecord, PartsWantedError
from mvmnix.builder.session.build_errors import last_lines
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.exec import KEPT_OUTPUT, BuilderMachine, CommandResult, Progress, run_command
from mvmnix.builder.session.import_outputs import OUTPUTS, OutputImport
from mvmnix.builder.session.ledger import Offer, OfferLedger
from mvmnix.builder.session.parts import ATTRIBUTE, PartsBuild, PartsRecord
from mvmnix.builder.session.session import BuildInputs, BuildRequest
from mvmnix.builder.session.worker_pool import Threads, WorkerPool

__all__ = [
    "ATTRIBUTE",
    "BLOCK",
    "KEPT_OUTPUT",
    "OUTPUTS",
    "ArchiveReader",
    "Build",
    "BuildInputs",
    "BuildRecord",
    "BuildRequest",
    "BuilderMachine",
    "CommandResult",
    "Connection",
    "Offer",
    "OfferLedger",
    "OutputImport",
    "PartsBuild",
    "PartsRecord",
    "PartsWantedError",
    "Progress",
    "Receiver",
    "Threads",
    "WorkerPool",
    "graph",
    "import_outputs",
    "last_lines",
    "run_command",
]
