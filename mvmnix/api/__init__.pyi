from mvmnix.api import files
from mvmnix.api.audit import ask_anchors_of, kept_checkpoint
from mvmnix.api.audit_check import begin_new_log, check_own_log, read_events, read_receipt, unended_starts
from mvmnix.api.builder_vm import BuildLimits
from mvmnix.api.context import Context, become_system_user, open_context
from mvmnix.api.copy import CopyOptions, copy_in, copy_in_tar, copy_out, copy_out_tar
from mvmnix.api.failure_log import keep_failure
from mvmnix.api.files import digest_in, exists, file_bytes, is_directory
from mvmnix.api.flakes import describe_image, lock_flake, write_flake
from mvmnix.api.frontend import SILENT, SILENT_PROGRESS, Frontend, Progress
from mvmnix.api.image_builder import ImageBuilder, open_image_builder
from mvmnix.api.images import (
    VARIATION,
    SeenImage,
    add_rebuilds,
    collect_sources,
    export_image,
    find_images,
    list_images,
    load_image,
    prune_images,
    rebuild_builder_image,
    rebuild_image,
    remove_images,
    save_image,
)
from mvmnix.api.launch import (
    RunResult,
    admit_created,
    admit_kept,
    admit_plan,
    check_terminal,
    create_machine,
    host_for,
    open_replay,
    refuse_terminal,
    run_attached,
    start_detached,
    submit_kept,
)
from mvmnix.api.machine_store import open_machine_store, put_in_order, with_verified_ends
from mvmnix.api.machines import MachineUsage, change_machines, kill_machines, remove_machines, stop_machines, usage_of
from mvmnix.api.names import attribute_names, has_state, image_names, machine_names, plan_digests
from mvmnix.api.pins import PinnedLock, add_packages, fetch_pins, pin_wheels, update_packages
from mvmnix.api.plans import (
    DATA_HINT,
    NETWORK_HINT,
    SHARE_HINT,
    KeptPlan,
    NetworkOptions,
    PlanOptions,
    add_signature,
    draft_plan,
    find_network,
    list_plans,
    open_signed,
    plan_bytes,
    refuse_early,
    remove_plans,
    sign_plan,
)
from mvmnix.api.policy_history import hold_log, latest_serials
from mvmnix.api.signing import PUBLIC_INSTANCES, KeylessChoice, key_file, read_secret
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
from mvmnix.api.verify.artifacts import verify_artifacts
from mvmnix.api.verify.image import verify_image
from mvmnix.builder.lockfile.document import LockChange
from mvmnix.builder.lockfile.session import LockRequest
from mvmnix.builder.pins.locks import DependencyDepth
from mvmnix.builder.template import Template
from mvmnix.formats.lock import InputPath
from mvmnix.images.file_names import BUNDLE_NAME
from mvmnix.images.gc_roots import Need, users_of
from mvmnix.images.prune import PruneResult
from mvmnix.images.store import STATEMENT_LIMIT, VerifiedImage
from mvmnix.launch.agent.commands import ExitStatus
from mvmnix.launch.agent.endpoints import FdSink
from mvmnix.launch.agent.requests import MOST_ROWS
from mvmnix.launch.agent.stream_frames import End
from mvmnix.launch.control.client import Call, call, change
from mvmnix.launch.control.messages import TERM, Exec, Pause, Resume, Shell, Stream
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.shares.risk_checks import DANGER_MEANINGS
from mvmnix.machines.audit_export import EXPORT_KEY, EXPORT_LOG, Archive, check_export, is_export, write_export
from mvmnix.machines.logs import read_console, read_network_log, read_output
from mvmnix.machines.output_log import Missing, Output, Piece
from mvmnix.machines.registry import (
    Filter,
    MachineEntry,
    filter_machines,
    find_machine,
    list_entries,
    machine_files,
    wait_for_end,
)
from mvmnix.network.gateway.dry_run import Attempt, judge
from mvmnix.network.policy.decisions import Denial, Rules
from mvmnix.network.policy.explain import EXPLANATIONS, sentence
from mvmnix.network.policy.presets import PresetChoice
from mvmnix.network.policy.risk_checks import ACKNOWLEDGEMENT_MEANINGS
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.labels import Labels, parse_labels
from mvmnix.plan.limits import (
    LEAST_CPU,
    MOST_CPU,
    MOST_KIB,
    MOST_SECONDS,
    MOST_SHARED_KIB,
    MOST_TASKS,
    MOST_WEIGHT,
    PlanLimits,
)
from mvmnix.plan.network import Action, Network, NetworkRule, Protocol, WhenGatewayEnds, parse_rules
from mvmnix.plan.network_endpoints import PublishedPort, UpstreamProxy
from mvmnix.plan.plan import Accelerator, Plan, Use, plan_statement
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.plan.share import Share
from mvmnix.system.loop import Loop

__all__ = [
    "ACKNOWLEDGEMENT_MEANINGS",
    "BUNDLE_NAME",
    "DANGER_MEANINGS",
    "DATA_HINT",
    "EXPLANATIONS",
    "EXPORT_KEY",
    "EXPORT_LOG",
    "KEPT_SCHEME",
    "LEAST_CPU",
    "MOST_CPU",
    "MOST_KIB",
    "MOST_ROWS",
    "MOST_SECONDS",
    "MOST_SHARED_KIB",
    "MOST_TASKS",
    "MOST_WEIGHT",
    "NETWORK_HINT",
    "PUBLIC_INSTANCES",
    "SHARE_HINT",
    "SILENT",
    "SILENT_PROGRESS",
    "STATEMENT_KINDS",
    "STATEMENT_LIMIT",
    "TERM",
    "VARIATION",
    "Accelerator",
    "Action",
    "Archive",
    "Attempt",
    "Backend",
    "BuildLimits",
    "Call",
    "Context",
    "CopyOptions",
    "DataDisk",
    "Denial",
    "DependencyDepth",
    "End",
    "Exec",
    "ExitStatus",
    "FdSink",
    "Filter",
    "Frontend",
    "ImageBuilder",
    "InputPath",
    "KeptImage",
    "KeptPlan",
    "KeylessChoice",
    "Labels",
    "LockChange",
    "LockRequest",
    "Loop",
    "MachineEntry",
    "MachineUsage",
    "Missing",
    "Need",
    "Network",
    "NetworkOptions",
    "NetworkRule",
    "Output",
    "Pause",
    "Piece",
    "PinnedLock",
    "Plan",
    "PlanLimits",
    "PlanOptions",
    "PresetChoice",
    "Progress",
    "Protocol",
    "PruneResult",
    "PublishedPort",
    "Resume",
    "Rules",
    "RunResult",
    "SecretReference",
    "SecretTarget",
    "SeenImage",
    "Share",
    "Shell",
    "SourceRef",
    "StatementFinder",
    "Stream",
    "Template",
    "UpstreamProxy",
    "Use",
    "VerifiedImage",
    "VerifiedPlan",
    "WhenGatewayEnds",
    "add_packages",
    "add_rebuilds",
    "add_signature",
    "admit_created",
    "admit_kept",
    "admit_plan",
    "ask_anchors_of",
    "attribute_names",
    "become_system_user",
    "begin_new_log",
    "call",
    "change",
    "change_machines",
    "check_export",
    "check_own_log",
    "check_terminal",
    "collect_sources",
    "copy_in",
    "copy_in_tar",
    "copy_out",
    "copy_out_tar",
    "create_machine",
    "describe_image",
    "digest_in",
    "draft_plan",
    "existing_source_ref",
    "exists",
    "export_image",
    "fetch_pins",
    "file_bytes",
    "files",
    "filter_machines",
    "find_images",
    "find_machine",
    "find_network",
    "has_state",
    "hold_log",
    "host_for",
    "image_names",
    "image_reference",
    "is_directory",
    "is_export",
    "judge",
    "keep_failure",
    "kept_checkpoint",
    "key_file",
    "kill_machines",
    "latest_serials",
    "list_entries",
    "list_images",
    "list_plans",
    "load_image",
    "lock_flake",
    "machine_files",
    "machine_names",
    "open_context",
    "open_image_builder",
    "open_machine_store",
    "open_replay",
    "open_signed",
    "parse_labels",
    "parse_rules",
    "pin_wheels",
    "plan_bytes",
    "plan_digests",
    "plan_statement",
    "prune_images",
    "put_in_order",
    "read_console",
    "read_events",
    "read_network_log",
    "read_output",
    "read_receipt",
    "read_secret",
    "rebuild_builder_image",
    "rebuild_image",
    "refuse_early",
    "refuse_terminal",
    "remove_images",
    "remove_machines",
    "remove_plans",
    "run_attached",
    "runnable_ref",
    "save_image",
    "sentence",
    "sign_plan",
    "signed_about",
    "source_ref",
    "start_detached",
    "stop_machines",
    "submit_kept",
    "unended_starts",
    "update_packages",
    "usage_of",
    "users_of",
    "verify_artifacts",
    "verify_image",
    "wait_for_end",
    "with_verified_ends",
    "write_export",
    "write_flake",
]
