"""What may run, with which means and until when, as the planner signs it: types, written and read strictly; no I/O."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "backend": "Backend",
        "data_disk": "DataDisk",
        "fields": "check_directory check_variables",
        "kernel_command_line": "Addition BackendParameter LARGEST_ADDITION",
        "labels": "Labels NO_LABELS parse_labels",
        "limits": (
            "LEAST_CPU MOST_CPU MOST_KIB MOST_SECONDS MOST_SHARED_KIB MOST_TASKS MOST_WEIGHT NO_LIMITS PlanLimits"
        ),
        "network": ("Acknowledgement Action Network NetworkRule parse_rules Protocol RuleLimits WhenGatewayEnds"),
        "network_endpoints": "PublishedPort UpstreamProxy",
        "network_hosts": "covered_range covers_name host_kind host_name HostKind is_address is_private_name",
        "plan": "Accelerator Plan plan_statement PREDICATE_TYPE",
        "secret_reference": (
            "kinds_digest LARGEST_SECRET LARGEST_SECRETS MOST_SECRETS Secret SecretReference SecretSource SecretTarget"
        ),
        "share": "Access Danger is_within MOST_SHARES Share ShareKind",
        "window": "Use",
    },
    modules=["kernel_command_line", "labels", "network", "plan", "share"],
)
