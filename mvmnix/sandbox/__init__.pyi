from mvmnix.sandbox import bubblewrap, git, landlock, pools, seccomp, trusted_executables
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP, NOBODY
from mvmnix.sandbox.child import Pipe
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import WORK, Bounds
from mvmnix.sandbox.subordinate_ids import CONTAINER_COUNT, SubordinateIds
from mvmnix.sandbox.trusted_executables import GIT, PYTHON, Candidates, check_program, locate, program_identity
from mvmnix.sandbox.uid_pool import Lease, UidPool

__all__ = [
    "BUBBLEWRAP",
    "CONTAINER_COUNT",
    "GIT",
    "NOBODY",
    "PYTHON",
    "WORK",
    "Bounds",
    "Candidates",
    "Lease",
    "Pipe",
    "Sandbox",
    "SubordinateIds",
    "UidPool",
    "bubblewrap",
    "check_program",
    "git",
    "landlock",
    "locate",
    "pools",
    "program_identity",
    "seccomp",
    "trusted_executables",
]
