from mvmnix.launch.machines import cleanup, control_socket, diagnosis, events, receipt, registry, retention, usage
from mvmnix.launch.machines.audit_export import EXPORT_KEY, EXPORT_LOG, Archive, check_export, is_export, write_export
from mvmnix.launch.machines.diagnosis import Diagnosis, diagnosis_file
from mvmnix.launch.machines.ending import (
    ChannelEnd,
    Ending,
    EndReason,
    HostAction,
    end_reason,
    end_words,
    judge_end,
    with_disk,
)
from mvmnix.launch.machines.filters import Filter, filter_machines
from mvmnix.launch.machines.logs import read_console, read_network_log, read_output
from mvmnix.launch.machines.machine_dir import CONSOLE, PLAN, RECEIPT, MachineHome, machine_ids, read_kept, read_status
from mvmnix.launch.machines.output_log import Missing, Output, OutputLog, Piece
from mvmnix.launch.machines.receipt import (
    Corruption,
    HostFile,
    NetworkUse,
    Observed,
    Receipt,
    Reported,
    receipt_statement,
)
from mvmnix.launch.machines.receipt_check import check_receipt
from mvmnix.launch.machines.recorded_ends import with_ends
from mvmnix.launch.machines.registry import MachineEntry, find_machine, list_entries, machine_files, wait_for_end
from mvmnix.launch.machines.start_notification import (
    Failure,
    Ready,
    StartNotification,
    parse_failure,
    read_start_notification,
)
from mvmnix.launch.machines.status import MachineSource, MachineState, MachineStatus
from mvmnix.launch.machines.traces import LogTraces
from mvmnix.launch.machines.usage import ProcessUsage

__all__ = [
    "CONSOLE",
    "EXPORT_KEY",
    "EXPORT_LOG",
    "PLAN",
    "RECEIPT",
    "Archive",
    "ChannelEnd",
    "Corruption",
    "Diagnosis",
    "EndReason",
    "Ending",
    "Failure",
    "Filter",
    "HostAction",
    "HostFile",
    "LogTraces",
    "MachineEntry",
    "MachineHome",
    "MachineSource",
    "MachineState",
    "MachineStatus",
    "Missing",
    "NetworkUse",
    "Observed",
    "Output",
    "OutputLog",
    "Piece",
    "ProcessUsage",
    "Ready",
    "Receipt",
    "Reported",
    "StartNotification",
    "check_export",
    "check_receipt",
    "cleanup",
    "control_socket",
    "diagnosis",
    "diagnosis_file",
    "end_reason",
    "end_words",
    "events",
    "filter_machines",
    "find_machine",
    "is_export",
    "judge_end",
    "list_entries",
    "machine_files",
    "machine_ids",
    "parse_failure",
    "read_console",
    "read_kept",
    "read_network_log",
    "read_output",
    "read_start_notification",
    "read_status",
    "receipt",
    "receipt_statement",
    "registry",
    "retention",
    "usage",
    "wait_for_end",
    "with_disk",
    "with_ends",
    "write_export",
]
