"""A disk of its own for one machine, encrypted under a key that nothing but memory ever holds."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "setup": "PreparedDisk",
    },
)
