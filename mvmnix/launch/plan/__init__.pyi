from mvmnix.launch.plan import kernel_command_line, labels, network, plan, share
from mvmnix.launch.plan.backend import Backend
from mvmnix.launch.plan.data_disk import DataDisk
from mvmnix.launch.plan.fields import check_directory, check_variables
from mvmnix.launch.plan.kernel_command_line import LARGEST_ADDITION, Addition, BackendParameter
from mvmnix.launch.plan.labels import NO_LABELS, Labels, parse_labels
from mvmnix.launch.plan.limits import (
    LEAST_CPU,
    MOST_CPU,
    MOST_KIB,
    MOST_SECONDS,
    MOST_SHARED_KIB,
    MOST_TASKS,
    MOST_WEIGHT,
    NO_LIMITS,
    PlanLimits,
)
from mvmnix.launch.plan.network import (
    Acknowledgement,
    Action,
    Network,
    NetworkRule,
    Protocol,
    RuleLimits,
    WhenGatewayEnds,
    parse_rules,
)
from mvmnix.launch.plan.network_endpoints import PublishedPort, UpstreamProxy
from mvmnix.launch.plan.network_hosts import HostKind, covered_range, covers_name, host_kind, host_name, is_address
from mvmnix.launch.plan.plan import PREDICATE_TYPE, Accelerator, Plan, plan_statement
from mvmnix.launch.plan.secret_reference import (
    LARGEST_SECRET,
    LARGEST_SECRETS,
    MOST_SECRETS,
    Secret,
    SecretReference,
    SecretSource,
    SecretTarget,
    kinds_digest,
)
from mvmnix.launch.plan.share import MOST_SHARES, Access, Danger, Share, ShareKind, is_within
from mvmnix.launch.plan.window import Use

__all__ = [
    "LARGEST_ADDITION",
    "LARGEST_SECRET",
    "LARGEST_SECRETS",
    "LEAST_CPU",
    "MOST_CPU",
    "MOST_KIB",
    "MOST_SECONDS",
    "MOST_SECRETS",
    "MOST_SHARED_KIB",
    "MOST_SHARES",
    "MOST_TASKS",
    "MOST_WEIGHT",
    "NO_LABELS",
    "NO_LIMITS",
    "PREDICATE_TYPE",
    "Accelerator",
    "Access",
    "Acknowledgement",
    "Action",
    "Addition",
    "Backend",
    "BackendParameter",
    "Danger",
    "DataDisk",
    "HostKind",
    "Labels",
    "Network",
    "NetworkRule",
    "Plan",
    "PlanLimits",
    "Protocol",
    "PublishedPort",
    "RuleLimits",
    "Secret",
    "SecretReference",
    "SecretSource",
    "SecretTarget",
    "Share",
    "ShareKind",
    "UpstreamProxy",
    "Use",
    "WhenGatewayEnds",
    "check_directory",
    "check_variables",
    "covered_range",
    "covers_name",
    "host_kind",
    "host_name",
    "is_address",
    "is_within",
    "kernel_command_line",
    "kinds_digest",
    "labels",
    "network",
    "parse_labels",
    "parse_rules",
    "plan",
    "plan_statement",
    "share",
]
