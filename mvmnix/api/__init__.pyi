from mvmnix.api import files, policy_history
from mvmnix.api.audit_check import begin_new_log, check_own_log, unended_starts
from mvmnix.api.audit_log import ask_witnesses_of, kept_checkpoint
from mvmnix.api.builder_vm import BuildLimits
from mvmnix.api.context import SOURCES_LOCK, Context, open_context
from mvmnix.api.copy import CopyOptions, copy_in, copy_in_tar, copy_out, copy_out_tar
from mvmnix.api.creation import admit_created, create_machine
from mvmnix.api.export import export_image, load_image, save_image
from mvmnix.api.files import digest_in, file_bytes
from mvmnix.api.flake_lock import lock_flake
from mvmnix.api.frontend import SILENT, Frontend
from mvmnix.api.image_builder import ImageBuilder, open_image_builder
from mvmnix.api.images import SeenImage, find_images, list_images, prune_images, remove_images
from mvmnix.api.kept_plans import KeptPlan, list_plans, plan_bytes, remove_plans
from mvmnix.api.keyless import PUBLIC_INSTANCES, KeylessChoice
from mvmnix.api.launch import Ran, admit_plan, host_for, run_attached, start_detached
from mvmnix.api.machine_events import read_events
from mvmnix.api.machine_store import open_machine_store, put_in_order
from mvmnix.api.machines import MachineUsage, change_machines, kill_machines, remove_machines, stop_machines, usage_of
from mvmnix.api.names import has_state, image_names, machine_names, plan_digests
from mvmnix.api.own_secrets import read_secret
from mvmnix.api.plans import DATA_HINT, SHARE_HINT, PlanOptions, add_signature, draft_plan, refuse_early, sign_plan
from mvmnix.api.policy_history import hold_log, latest_serials
from mvmnix.api.privileges import give_up_root
from mvmnix.api.progress import SILENT_PROGRESS, Progress
from mvmnix.api.rebuild import VARIATION, rebuild_image
from mvmnix.api.rebuild_provenance import add_rebuilds
from mvmnix.api.receipts import read_receipt
from mvmnix.api.signer import key_file
from mvmnix.api.source_gc import collect_sources
from mvmnix.api.source_refs import (
    KEPT_SCHEME,
    KeptImage,
    SourceRef,
    existing_source_ref,
    image_reference,
    runnable_ref,
    source_ref,
)
from mvmnix.api.statements import STATEMENT_KINDS, StatementFinder, signed_about
from mvmnix.api.terminal import check_terminal, refuse_terminal
from mvmnix.api.verified_ends import with_verified_ends
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
    "DATA_HINT",
    "KEPT_SCHEME",
    "PUBLIC_INSTANCES",
    "SHARE_HINT",
    "SILENT",
    "SILENT_PROGRESS",
    "SOURCES_LOCK",
    "STATEMENT_KINDS",
    "VARIATION",
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
    "KeylessChoice",
    "MachineUsage",
    "Missing",
    "Output",
    "Pause",
    "Piece",
    "PlanOptions",
    "Progress",
    "Ran",
    "Resume",
    "SeenImage",
    "Shell",
    "SourceRef",
    "StatementFinder",
    "Stream",
    "Use",
    "VerifiedImage",
    "add_rebuilds",
    "add_signature",
    "admit_created",
    "admit_plan",
    "ask_witnesses_of",
    "begin_new_log",
    "call",
    "change",
    "change_machines",
    "check_own_log",
    "check_terminal",
    "collect_sources",
    "copy_in",
    "copy_in_tar",
    "copy_out",
    "copy_out_tar",
    "create_machine",
    "digest_in",
    "draft_plan",
    "existing_source_ref",
    "export_image",
    "file_bytes",
    "files",
    "find_images",
    "give_up_root",
    "has_state",
    "hold_log",
    "host_for",
    "image_names",
    "image_reference",
    "kept_checkpoint",
    "key_file",
    "kill_machines",
    "latest_serials",
    "list_images",
    "list_plans",
    "load_image",
    "lock_flake",
    "machine_names",
    "open_context",
    "open_image_builder",
    "open_machine_store",
    "plan_bytes",
    "plan_digests",
    "policy_history",
    "prune_images",
    "put_in_order",
    "read_console",
    "read_events",
    "read_output",
    "read_receipt",
    "read_secret",
    "rebuild_image",
    "refuse_early",
    "refuse_terminal",
    "remove_images",
    "remove_machines",
    "remove_plans",
    "run_attached",
    "runnable_ref",
    "save_image",
    "sign_plan",
    "signed_about",
    "source_ref",
    "start_detached",
    "stop_machines",
    "unended_starts",
    "usage_of",
    "verify_artifacts",
    "verify_image",
    "with_verified_ends",
]
