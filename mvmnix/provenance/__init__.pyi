from mvmnix.provenance import trust_toml
from mvmnix.provenance.isolation import Boundary, Isolation
from mvmnix.provenance.trust_toml import show_duration

__all__ = ["Boundary", "Isolation", "show_duration", "trust_toml"]
