"""What a guest is told in confidence, and what must not stand in a plan instead."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "resolve": "resolve_secrets",
    },
    modules=["credentials"],
)
