from mvmnix.cli.options.audit import (
    DIRECTORY,
    KEY,
    KEY_LIMIT,
    AuditSource,
    AuditVerdict,
    archive_key,
    audit_verdicts,
    open_named,
    public_key,
)
from mvmnix.cli.options.backend import isolation_line
from mvmnix.cli.options.data import data_lines
from mvmnix.cli.options.environment import env_option
from mvmnix.cli.options.network import network_lines, rule_lines
from mvmnix.cli.options.outputs import Destination, OutputType, Stdout
from mvmnix.cli.options.plan import plan_option_names, plan_options
from mvmnix.cli.options.secrets import secret_lines
from mvmnix.cli.options.shares import share_lines
from mvmnix.cli.options.signing import secret_ref, signing_options
from mvmnix.cli.options.trust import VerifyOptions, trust_options, wanted_options

__all__ = [
    "DIRECTORY",
    "KEY",
    "KEY_LIMIT",
    "AuditSource",
    "AuditVerdict",
    "Destination",
    "OutputType",
    "Stdout",
    "VerifyOptions",
    "archive_key",
    "audit_verdicts",
    "data_lines",
    "env_option",
    "isolation_line",
    "network_lines",
    "open_named",
    "plan_option_names",
    "plan_options",
    "public_key",
    "rule_lines",
    "secret_lines",
    "secret_ref",
    "share_lines",
    "signing_options",
    "trust_options",
    "wanted_options",
]
