"""From a verified plan to a running microVM and its receipt."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "loop": "Loop",
    },
)
