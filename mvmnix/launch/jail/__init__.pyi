from mvmnix.launch.jail import delegated_scope
from mvmnix.launch.jail.jail import BubblewrapJail

__all__ = ["BubblewrapJail", "delegated_scope"]
