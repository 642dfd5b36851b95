"""What callers of a machine ask its agent for by name, and within which limits; no bytes, no I/O.

It imports nothing of mvm's: each `mvm exec` loads it, and never the requests that a supervisor makes of it.
"""

from enum import StrEnum
from typing import Final

#: Largest payload of any frame, and so of a configuration or a command with its environment.
MAX_PAYLOAD: Final = 65536
#: How many guest ports may be forwarded.
MAX_PORTS: Final = 64
#: Most rows, or columns, that a terminal may have.
MOST_ROWS: Final = 4096


class CopyDirection(StrEnum):
    """Which way a copy goes, seen from the guest."""

    OUT = "out"
    IN = "in"


class FileOperation(StrEnum):
    """An operation on a path in the guest; reading and writing contents is a copy."""

    LIST = "list"
    STAT = "stat"
    REMOVE = "remove"
    RENAME = "rename"
    MKDIR = "mkdir"
