from mvmnix.api.doctor.checks import look_at_host
from mvmnix.api.doctor.finding import Health

__all__ = ["Health", "look_at_host"]
