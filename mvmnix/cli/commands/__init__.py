"""A module for each command: parses, calls the application once, shows what it returned."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "completion": "answer_shell",
    },
)
