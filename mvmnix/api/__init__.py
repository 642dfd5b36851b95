"""The application under every face: state, builds, plans, machines and verdicts; prints nothing, parses no argv.

Each name is imported when it is first used, so that verifying a file doesn't load what builds images. The types are in
`__init__.pyi`.
"""

import importlib

#: Where each name of this face is defined. What a caller hands over or gets back may come from a room below.
_MODULES = {
    "Accelerator": "mvmnix.launch.plan.plan",
    "Backend": "mvmnix.launch.plan.backend",
    "BuildLimits": "mvmnix.api.builder_vm",
    "Call": "mvmnix.launch.control.client",
    "Context": "mvmnix.api.context",
    "CopyOptions": "mvmnix.api.copy",
    "End": "mvmnix.launch.agent.stream_frames",
    "Exec": "mvmnix.launch.control.messages",
    "ExitStatus": "mvmnix.launch.agent.commands",
    "Frontend": "mvmnix.api.frontend",
    "ImageBuilder": "mvmnix.api.image_builder",
    "KeptImage": "mvmnix.api.source_refs",
    "KeptPlan": "mvmnix.api.kept_plans",
    "Missing": "mvmnix.launch.machines.output_log",
    "Output": "mvmnix.launch.machines.output_log",
    "Pause": "mvmnix.launch.control.messages",
    "Piece": "mvmnix.launch.machines.output_log",
    "PlanOptions": "mvmnix.api.plans",
    "Progress": "mvmnix.api.progress",
    "Ran": "mvmnix.api.launch",
    "Resume": "mvmnix.launch.control.messages",
    "SILENT": "mvmnix.api.frontend",
    "SILENT_PROGRESS": "mvmnix.api.progress",
    "Shell": "mvmnix.launch.control.messages",
    "SourceRef": "mvmnix.api.source_refs",
    "Stream": "mvmnix.launch.control.messages",
    "Use": "mvmnix.launch.plan.window",
    "VerifiedImage": "mvmnix.api.verify.image",
    "add_signature": "mvmnix.api.plans",
    "admit_created": "mvmnix.api.creation",
    "admit_plan": "mvmnix.api.launch",
    "call": "mvmnix.launch.control.client",
    "change": "mvmnix.launch.control.client",
    "copy_in": "mvmnix.api.copy",
    "copy_in_tar": "mvmnix.api.copy",
    "copy_out": "mvmnix.api.copy",
    "copy_out_tar": "mvmnix.api.copy",
    "create_machine": "mvmnix.api.creation",
    "draft_plan": "mvmnix.api.plans",
    "existing_source_ref": "mvmnix.api.source_refs",
    "export_image": "mvmnix.api.export",
    "give_up_root": "mvmnix.api.privileges",
    "host_for": "mvmnix.api.launch",
    "list_plans": "mvmnix.api.kept_plans",
    "lock_flake": "mvmnix.api.flake_lock",
    "open_context": "mvmnix.api.context",
    "open_image_builder": "mvmnix.api.image_builder",
    "open_machine_store": "mvmnix.api.machine_store",
    "put_in_order": "mvmnix.api.machine_store",
    "read_console": "mvmnix.launch.machines.logs",
    "read_output": "mvmnix.launch.machines.logs",
    "read_receipt": "mvmnix.api.receipts",
    "refuse_early": "mvmnix.api.plans",
    "remove_plans": "mvmnix.api.kept_plans",
    "run_attached": "mvmnix.api.launch",
    "runnable_ref": "mvmnix.api.source_refs",
    "sign_plan": "mvmnix.api.plans",
    "source_ref": "mvmnix.api.source_refs",
    "start_detached": "mvmnix.api.launch",
    "verify_artifacts": "mvmnix.api.verify.artifacts",
    "verify_image": "mvmnix.api.verify.image",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """A name of this face, from the module that defines it. Raises AttributeError."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
