from mvmnix.launch.machines import (
    audit_export,
    cleanup,
    control_socket,
    diagnosis,
    events,
    filters,
    receipt,
    registry,
    retention,
    usage,
)
from mvmnix.launch.machines.audit_export import Archive
from mvmnix.launch.machines.diagnosis import Diagnosis, diagnosis_file
from mvmnix.launch.machines.ending import (
    Ending,
    EndReason,
    HostAction,
    LastWord,
    end_reason,
    end_words,
    judge_end,
    with_disk,
)
from mvmnix.launch.machines.filters import Filter
from mvmnix.launch.machines.machine_dir import CONSOLE, PLAN, RECEIPT, MachineHome, machine_ids, read_kept, read_status
from mvmnix.launch.machines.output_log import Output, OutputLog
from mvmnix.launch.machines.receipt import Corruption, HostFile, Observed, Receipt, Reported, receipt_statement
from mvmnix.launch.machines.receipt_check import check_receipt
from mvmnix.launch.machines.recorded_ends import with_ends
from mvmnix.launch.machines.registry import Entry, find_machine, list_entries
from mvmnix.launch.machines.start_notification import Failure, News, Ready, parse_failure, read_news
from mvmnix.launch.machines.status import MachineState, MachineStatus, Origin
from mvmnix.launch.machines.traces import Traces
from mvmnix.launch.machines.usage import Used

__all__ = [
    "CONSOLE",
    "PLAN",
    "RECEIPT",
    "Archive",
    "Corruption",
    "Diagnosis",
    "EndReason",
    "Ending",
    "Entry",
    "Failure",
    "Filter",
    "HostAction",
    "HostFile",
    "LastWord",
    "MachineHome",
    "MachineState",
    "MachineStatus",
    "News",
    "Observed",
    "Origin",
    "Output",
    "OutputLog",
    "Ready",
    "Receipt",
    "Reported",
    "Traces",
    "Used",
    "audit_export",
    "check_receipt",
    "cleanup",
    "control_socket",
    "diagnosis",
    "diagnosis_file",
    "end_reason",
    "end_words",
    "events",
    "filters",
    "find_machine",
    "judge_end",
    "list_entries",
    "machine_ids",
    "parse_failure",
    "read_kept",
    "read_news",
    "read_status",
    "receipt",
    "receipt_statement",
    "registry",
    "retention",
    "usage",
    "with_disk",
    "with_ends",
]
