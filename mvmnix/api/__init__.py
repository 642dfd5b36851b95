"""The application under every face: state, builds, plans, machines and verdicts; prints nothing, parses no argv.

Each name is imported when it is first used, so that verifying a file doesn't load what builds images. The types are in
`__init__.pyi`.
"""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "audit_check": "begin_new_log check_own_log unended_starts",
        "audit_log": "ask_witnesses_of kept_checkpoint",
        "builder_vm": "BuildLimits",
        "context": "Context open_context SOURCES_LOCK",
        "copy": "copy_in copy_in_tar copy_out copy_out_tar CopyOptions",
        "creation": "admit_created create_machine",
        "export": "export_image load_image save_image",
        "files": "digest_in file_bytes",
        "flake_lock": "lock_flake",
        "frontend": "Frontend SILENT",
        "image_builder": "ImageBuilder open_image_builder",
        "images": "find_images list_images prune_images remove_images SeenImage",
        "kept_plans": "KeptPlan list_plans plan_bytes remove_plans",
        "keyless": "KeylessChoice PUBLIC_INSTANCES",
        "launch": "admit_plan host_for Ran run_attached start_detached",
        "machine_events": "read_events",
        "machine_store": "open_machine_store put_in_order",
        "machines": "change_machines kill_machines MachineUsage remove_machines stop_machines usage_of",
        "names": "has_state image_names machine_names plan_digests",
        "own_secrets": "read_secret",
        "plans": "add_signature DATA_HINT draft_plan PlanOptions refuse_early SHARE_HINT sign_plan",
        "policy_history": "hold_log latest_serials",
        "privileges": "give_up_root",
        "progress": "Progress SILENT_PROGRESS",
        "rebuild": "rebuild_image VARIATION",
        "rebuild_provenance": "add_rebuilds",
        "receipts": "read_receipt",
        "signer": "key_file",
        "source_gc": "collect_sources",
        "source_refs": "existing_source_ref image_reference KEPT_SCHEME KeptImage runnable_ref source_ref SourceRef",
        "statements": "signed_about STATEMENT_KINDS StatementFinder",
        "terminal": "check_terminal refuse_terminal",
        "verified_ends": "with_verified_ends",
        "verify.artifacts": "verify_artifacts",
        "verify.image": "VerifiedImage verify_image",
        "mvmnix.launch.agent.commands": "ExitStatus",
        "mvmnix.launch.agent.stream_frames": "End",
        "mvmnix.launch.control.client": "Call call change",
        "mvmnix.launch.control.messages": "Exec Pause Resume Shell Stream",
        "mvmnix.launch.machines.logs": "read_console read_output",
        "mvmnix.launch.machines.output_log": "Missing Output Piece",
        "mvmnix.launch.plan.backend": "Backend",
        "mvmnix.launch.plan.plan": "Accelerator",
        "mvmnix.launch.plan.window": "Use",
    },
    modules=["files", "policy_history"],
)
