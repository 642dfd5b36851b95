"""Takes the root tree of a flake, and finds names in its text, without evaluating it."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "flake_source": "FlakeSource source_of take_flake",
        "flake_text": "package_names",
        "worktree": "Draft",
    },
)
