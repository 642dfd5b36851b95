from mvmnix.launch.secrets import credentials
from mvmnix.launch.secrets.resolve import resolve_secrets

__all__ = ["credentials", "resolve_secrets"]
