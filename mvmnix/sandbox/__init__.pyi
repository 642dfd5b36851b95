from mvmnix.sandbox import bubblewrap, landlock, seccomp, trusted_executables
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP, NOBODY
from mvmnix.sandbox.child import Pipe
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import WORK, Bounds
from mvmnix.sandbox.trusted_executables import GIT, Candidates, check_program, locate, program_identity
from mvmnix.sandbox.uid_pool import Lease, UidPool, machine_uid_pool

__all__ = [
    "BUBBLEWRAP",
    "GIT",
    "NOBODY",
    "WORK",
    "Bounds",
    "Candidates",
    "Lease",
    "Pipe",
    "Sandbox",
    "UidPool",
    "bubblewrap",
    "check_program",
    "landlock",
    "locate",
    "machine_uid_pool",
    "program_identity",
    "seccomp",
    "trusted_executables",
]
