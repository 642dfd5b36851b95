from mvmnix import aio as aio
from mvmnix.launch.agent.file_entries import FileEntry as FileEntry
from mvmnix.launch.agent.file_entries import FileKind as FileKind
from mvmnix.plan.data_disk import DataDisk as DataDisk
from mvmnix.sdk.blocking import Files as Files
from mvmnix.sdk.blocking import Sandbox as Sandbox
from mvmnix.sdk.blocking import initialize as initialize
from mvmnix.sdk.blocking_commands import Process as Process
from mvmnix.sdk.blocking_commands import Reader as Reader
from mvmnix.sdk.blocking_commands import Stream as Stream
from mvmnix.sdk.blocking_commands import Writer as Writer
from mvmnix.sdk.blocking_images import Audit as Audit
from mvmnix.sdk.blocking_images import Image as Image
from mvmnix.sdk.blocking_images import Plan as Plan
from mvmnix.sdk.blocking_images import Pool as Pool
from mvmnix.sdk.blocking_images import Snapshot as Snapshot
from mvmnix.sdk.blocking_images import verify as verify
from mvmnix.sdk.errors import Cause as Cause
from mvmnix.sdk.errors import CommandFailed as CommandFailed
from mvmnix.sdk.errors import Error as Error
from mvmnix.sdk.errors import FileExists as FileExists
from mvmnix.sdk.errors import FileFailed as FileFailed
from mvmnix.sdk.errors import FileForbidden as FileForbidden
from mvmnix.sdk.errors import FileIsDirectory as FileIsDirectory
from mvmnix.sdk.errors import FileNotDirectory as FileNotDirectory
from mvmnix.sdk.errors import FileNotFound as FileNotFound
from mvmnix.sdk.errors import GuestFailed as GuestFailed
from mvmnix.sdk.errors import InvalidArgument as InvalidArgument
from mvmnix.sdk.errors import NotFound as NotFound
from mvmnix.sdk.errors import NotGranted as NotGranted
from mvmnix.sdk.errors import NotRunning as NotRunning
from mvmnix.sdk.errors import NotVerified as NotVerified
from mvmnix.sdk.errors import OutcomeUnknown as OutcomeUnknown
from mvmnix.sdk.errors import OutputLimitExceeded as OutputLimitExceeded
from mvmnix.sdk.errors import PolicyRefused as PolicyRefused
from mvmnix.sdk.errors import Refused as Refused
from mvmnix.sdk.errors import SetupMissing as SetupMissing
from mvmnix.sdk.errors import TimedOut as TimedOut
from mvmnix.sdk.errors import Unreachable as Unreachable
from mvmnix.sdk.images import AuditReport as AuditReport
from mvmnix.sdk.images import Verdict as Verdict
from mvmnix.sdk.results import ExitEvent as ExitEvent
from mvmnix.sdk.results import LogPiece as LogPiece
from mvmnix.sdk.results import MachineEnd as MachineEnd
from mvmnix.sdk.results import MachineInfo as MachineInfo
from mvmnix.sdk.results import OutputEvent as OutputEvent
from mvmnix.sdk.results import Result as Result
from mvmnix.sdk.results import Template as Template
from mvmnix.sdk.values import Allow as Allow
from mvmnix.sdk.values import Deny as Deny
from mvmnix.sdk.values import Preset as Preset
from mvmnix.sdk.values import Publish as Publish
from mvmnix.sdk.values import Secret as Secret
from mvmnix.sdk.values import Share as Share

__version__: str
__all__ = [
    "Allow",
    "Audit",
    "AuditReport",
    "Cause",
    "CommandFailed",
    "DataDisk",
    "Deny",
    "Error",
    "ExitEvent",
    "FileEntry",
    "FileExists",
    "FileFailed",
    "FileForbidden",
    "FileIsDirectory",
    "FileKind",
    "FileNotDirectory",
    "FileNotFound",
    "Files",
    "GuestFailed",
    "Image",
    "InvalidArgument",
    "LogPiece",
    "MachineEnd",
    "MachineInfo",
    "NotFound",
    "NotGranted",
    "NotRunning",
    "NotVerified",
    "OutcomeUnknown",
    "OutputEvent",
    "OutputLimitExceeded",
    "Plan",
    "PolicyRefused",
    "Pool",
    "Preset",
    "Process",
    "Publish",
    "Reader",
    "Refused",
    "Result",
    "Sandbox",
    "Secret",
    "SetupMissing",
    "Share",
    "Snapshot",
    "Stream",
    "Template",
    "TimedOut",
    "Unreachable",
    "Verdict",
    "Writer",
    "aio",
    "initialize",
    "verify",
]
