"""The application under every face: state, builds, plans, machines and verdicts; prints nothing, parses no argv.

Each name is imported when it is first used, so that verifying a file doesn't load what builds images. The types are in
`__init__.pyi`.
"""

import importlib

#: Where each name of this face is defined.
_MODULES = {
    "BuildLimits": "builder_vm",
    "Context": "context",
    "Frontend": "frontend",
    "ImageBuilder": "image_builder",
    "PlanOptions": "plans",
    "Progress": "progress",
    "Ran": "launch",
    "SILENT": "frontend",
    "SILENT_PROGRESS": "progress",
    "SourceRef": "source_refs",
    "VerifiedImage": "verify.image",
    "add_signature": "plans",
    "admit_created": "creation",
    "admit_plan": "launch",
    "create_machine": "creation",
    "draft_plan": "plans",
    "existing_source_ref": "source_refs",
    "export_image": "export",
    "host_for": "launch",
    "open_context": "context",
    "open_image_builder": "image_builder",
    "open_machine_store": "machine_store",
    "put_in_order": "machine_store",
    "read_receipt": "receipts",
    "refuse_early": "plans",
    "run_attached": "launch",
    "sign_plan": "plans",
    "source_ref": "source_refs",
    "start_detached": "launch",
    "verify_artifacts": "verify.artifacts",
    "verify_image": "verify.image",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """A name of this face, from the module that defines it. Raises AttributeError."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
