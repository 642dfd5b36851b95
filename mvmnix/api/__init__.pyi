from mvmnix.api.builder_vm import BuildLimits
from mvmnix.api.context import Context, open_context
from mvmnix.api.copy import CopyOptions, copy_in, copy_in_tar, copy_out, copy_out_tar
from mvmnix.api.creation import admit_created, create_machine
from mvmnix.api.export import export_image
from mvmnix.api.flake_lock import lock_flake
from mvmnix.api.frontend import SILENT, Frontend
from mvmnix.api.image_builder import ImageBuilder, open_image_builder
from mvmnix.api.kept_plans import KeptPlan, list_plans, remove_plans
from mvmnix.api.launch import Ran, admit_plan, host_for, run_attached, start_detached
from mvmnix.api.machine_store import open_machine_store, put_in_order
from mvmnix.api.plans import PlanOptions, add_signature, draft_plan, refuse_early, sign_plan
from mvmnix.api.privileges import give_up_root
from mvmnix.api.progress import SILENT_PROGRESS, Progress
from mvmnix.api.receipts import read_receipt
from mvmnix.api.source_refs import KeptImage, SourceRef, existing_source_ref, runnable_ref, source_ref
from mvmnix.api.verify.artifacts import verify_artifacts
from mvmnix.api.verify.image import VerifiedImage, verify_image
from mvmnix.launch.agent.commands import ExitStatus
from mvmnix.launch.agent.stream_frames import End
from mvmnix.launch.control.client import Call, call, change
from mvmnix.launch.control.messages import Exec, Pause, Resume, Shell, Stream
from mvmnix.launch.machines.logs import read_console, read_output
from mvmnix.launch.machines.output_log import Missing, Output, Piece
from mvmnix.launch.plan.backend import Backend
from mvmnix.launch.plan.plan import Accelerator
from mvmnix.launch.plan.window import Use

__all__ = [
    "SILENT",
    "SILENT_PROGRESS",
    "Accelerator",
    "Backend",
    "BuildLimits",
    "Call",
    "Context",
    "CopyOptions",
    "End",
    "Exec",
    "ExitStatus",
    "Frontend",
    "ImageBuilder",
    "KeptImage",
    "KeptPlan",
    "Missing",
    "Output",
    "Pause",
    "Piece",
    "PlanOptions",
    "Progress",
    "Ran",
    "Resume",
    "Shell",
    "SourceRef",
    "Stream",
    "Use",
    "VerifiedImage",
    "add_signature",
    "admit_created",
    "admit_plan",
    "call",
    "change",
    "copy_in",
    "copy_in_tar",
    "copy_out",
    "copy_out_tar",
    "create_machine",
    "draft_plan",
    "existing_source_ref",
    "export_image",
    "give_up_root",
    "host_for",
    "list_plans",
    "lock_flake",
    "open_context",
    "open_image_builder",
    "open_machine_store",
    "put_in_order",
    "read_console",
    "read_output",
    "read_receipt",
    "refuse_early",
    "remove_plans",
    "run_attached",
    "runnable_ref",
    "sign_plan",
    "source_ref",
    "start_detached",
    "verify_artifacts",
    "verify_image",
]
