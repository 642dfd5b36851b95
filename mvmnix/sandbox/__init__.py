"""The sandbox for every child that parses what a stranger controls; below `builder` and `launch`."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "bubblewrap": "BUBBLEWRAP NOBODY",
        "child": "Pipe",
        "helper": "Sandbox",
        "helper_command": "Bounds WORK",
        "trusted_executables": "Candidates check_program GIT locate program_identity PYTHON",
        "subordinate_ids": "CONTAINER_COUNT SubordinateIds",
        "uid_pool": "Lease UidPool",
    },
    modules=["bubblewrap", "git", "landlock", "pools", "seccomp", "trusted_executables"],
)
