"""What a networked machine may reach: its names and connections are read here, and judged by the plan's rules."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(__name__, {})
