from mvmnix.launch.jail import delegated_scope
from mvmnix.launch.jail.jail import BubblewrapJail
from mvmnix.launch.jail.network_sandbox import is_readable_by_all

__all__ = ["BubblewrapJail", "delegated_scope", "is_readable_by_all"]
