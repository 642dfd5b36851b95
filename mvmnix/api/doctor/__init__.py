"""What `mvm doctor` finds of this host: checks, each of which makes findings."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "checks": "look_at_host",
        "finding": "Finding Health",
    },
)
