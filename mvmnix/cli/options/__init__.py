"""Options that several commands share, each with the noun that it hands over."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "audit": "archive_key audit_verdicts AuditSource AuditVerdict DIRECTORY KEY KEY_LIMIT open_named public_key",
        "backend": "isolation_line",
        "data": "data_lines",
        "environment": "env_option",
        "network": "network_lines rule_lines",
        "outputs": "Destination OutputType Stdout",
        "plan": "plan_option_names plan_options",
        "secrets": "secret_lines",
        "shares": "share_lines",
        "signing": "secret_ref signing_options",
        "trust": "VerifyOptions wanted_options trust_options",
    },
)
