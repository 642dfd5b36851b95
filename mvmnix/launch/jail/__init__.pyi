from mvmnix.launch.jail.jail import BubblewrapJail

__all__ = ["BubblewrapJail"]
