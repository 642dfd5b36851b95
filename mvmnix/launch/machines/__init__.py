"""What is written about machines and read again: status, ends, receipts, archives."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "audit_export": "Archive check_export EXPORT_KEY EXPORT_LOG is_export write_export",
        "diagnosis": "Diagnosis diagnosis_file",
        "ending": "ChannelEnd end_reason end_words Ending EndReason HostAction judge_end with_disk",
        "filters": "Filter filter_machines",
        "logs": "read_console read_network_log read_output",
        "machine_dir": "CONSOLE machine_ids MachineHome PLAN read_kept read_status RECEIPT",
        "output_log": "Missing Output OutputLog Piece",
        "receipt": "Corruption HostFile NetworkUse Observed Receipt receipt_statement Reported",
        "receipt_check": "check_receipt",
        "recorded_ends": "with_ends",
        "registry": "find_machine list_entries machine_files MachineEntry wait_for_end",
        "start_notification": "Failure parse_failure read_start_notification Ready StartNotification",
        "status": "MachineSource MachineState MachineStatus",
        "traces": "LogTraces",
        "usage": "ProcessUsage",
    },
    modules=["cleanup", "control_socket", "diagnosis", "events", "receipt", "registry", "retention", "usage"],
)
