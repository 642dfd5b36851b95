"""The application under every face: state, builds, plans, machines and verdicts; prints nothing, parses no argv.

Each name is imported when it is first used, so that verifying a file doesn't load what builds images. The types are in
`__init__.pyi`.
"""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "audit_check": "begin_new_log check_own_log unended_starts",
        "audit_log": "ask_anchors_of kept_checkpoint",
        "builder_vm": "BuildLimits",
        "context": "Context open_context",
        "copy": "copy_in copy_in_tar copy_out copy_out_tar CopyOptions",
        "creation": "admit_created create_machine",
        "export": "export_image load_image save_image",
        "failure_log": "keep_failure",
        "files": "digest_in exists file_bytes is_directory",
        "flake_lock": "lock_flake",
        "frontend": "Frontend SILENT",
        "gate": "admit_kept open_replay submit_kept",
        "image_builder": "ImageBuilder open_image_builder",
        "images": "find_images list_images prune_images remove_images SeenImage",
        "kept_plans": "KeptPlan list_plans plan_bytes remove_plans",
        "keyless": "KeylessChoice PUBLIC_INSTANCES",
        "launch": "admit_plan host_for run_attached RunResult start_detached",
        "machine_events": "read_events",
        "machine_store": "open_machine_store put_in_order",
        "machines": "change_machines kill_machines MachineUsage remove_machines stop_machines usage_of",
        "names": "attribute_names has_state image_names machine_names plan_digests",
        "new_flake": "describe_image write_flake",
        "own_secrets": "read_secret",
        "pins": "add_packages fetch_pins pin_wheels PinnedLock update_packages",
        "plan_network": "find_network",
        "plans": (
            "add_signature DATA_HINT draft_plan NETWORK_HINT NetworkOptions open_signed PlanOptions refuse_early "
            "SHARE_HINT sign_plan"
        ),
        "policy_history": "hold_log latest_serials",
        "root": "become_system_user",
        "progress": "Progress SILENT_PROGRESS",
        "rebuild": "rebuild_builder_image rebuild_image VARIATION",
        "rebuild_provenance": "add_rebuilds",
        "receipts": "read_receipt",
        "signer": "key_file",
        "source_gc": "collect_sources",
        "source_refs": "existing_source_ref image_reference KEPT_SCHEME KeptImage runnable_ref source_ref SourceRef",
        "statements": "signed_about STATEMENT_KINDS StatementFinder",
        "terminal": "check_terminal refuse_terminal",
        "verified_ends": "with_verified_ends",
        "verify": "verify_artifacts verify_image",
        "mvmnix.builder": "Template",
        "mvmnix.builder.lockfile": "InputPath LockChange LockRequest",
        "mvmnix.builder.pins": "DependencyDepth",
        "mvmnix.images": "BUNDLE_NAME Need PruneResult STATEMENT_LIMIT users_of VerifiedImage",
        "mvmnix.launch": "Loop",
        "mvmnix.launch.agent": "End ExitStatus FdSink MOST_ROWS",
        "mvmnix.launch.control": "Call call change Exec Pause Resume Shell Stream TERM",
        "mvmnix.launch.gate": "VerifiedPlan",
        "mvmnix.launch.machines": (
            "Archive check_export EXPORT_KEY EXPORT_LOG Filter filter_machines find_machine is_export "
            "list_entries machine_files MachineEntry Missing Output Piece read_console read_network_log read_output "
            "wait_for_end write_export"
        ),
        "mvmnix.launch.network": (
            "ACKNOWLEDGEMENT_MEANINGS Attempt Denial EXPLANATIONS judge PresetChoice Rules sentence"
        ),
        "mvmnix.launch.plan": (
            "Accelerator Action Backend DataDisk Labels LEAST_CPU MOST_CPU MOST_KIB MOST_SECONDS MOST_SHARED_KIB "
            "MOST_TASKS MOST_WEIGHT Network NetworkRule parse_labels parse_rules Plan plan_statement PlanLimits "
            "Protocol PublishedPort SecretReference SecretTarget Share UpstreamProxy Use "
            "WhenGatewayEnds"
        ),
        "mvmnix.launch.shares": "DANGER_MEANINGS",
    },
    modules=["files", "policy_history"],
)
