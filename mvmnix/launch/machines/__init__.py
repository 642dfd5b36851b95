"""What is written about machines and read again: status, ends, receipts, archives."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "audit_export": "Archive",
        "diagnosis": "Diagnosis diagnosis_file",
        "ending": "end_reason end_words Ending EndReason HostAction judge_end LastWord with_disk",
        "filters": "Filter",
        "machine_dir": "CONSOLE machine_ids MachineHome PLAN read_kept read_status RECEIPT",
        "output_log": "Output OutputLog",
        "receipt": "Corruption HostFile Observed Receipt receipt_statement Reported",
        "receipt_check": "check_receipt",
        "recorded_ends": "with_ends",
        "registry": "Entry find_machine list_entries",
        "start_notification": "Failure News parse_failure read_news Ready",
        "status": "MachineState MachineStatus Origin",
        "traces": "Traces",
        "usage": "Used",
    },
    modules=[
        "audit_export",
        "cleanup",
        "control_socket",
        "diagnosis",
        "events",
        "filters",
        "receipt",
        "registry",
        "retention",
        "usage",
    ],
)
