from mvmnix.api.doctor.checks import look_at_host
from mvmnix.api.doctor.finding import Finding, Health

__all__ = ["Finding", "Health", "look_at_host"]
