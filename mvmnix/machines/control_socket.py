"""Names the socket in a machine's directory, opens it, and finds whether the machine's supervisor is behind it."""

import socket
from typing import Final

from mvmnix.errors import UsageError
from mvmnix.system import private_sockets
from mvmnix.system.private_dirs import Directory

NAME: Final = "control"
#: Callers that may be connected at once; a guest takes 64 commands.
MOST_CALLERS: Final = 64
#: Seconds that a connection may take: a supervisor whose callers are too many accepts no further one.
_PATIENCE: Final = 10.0


def listen(directory: Directory) -> socket.socket:
    """Open the listening socket of a machine whose lock is held by the caller. Raises OSError."""
    return private_sockets.listen(directory, NAME, MOST_CALLERS)


def connect(directory: Directory, supervisor: int) -> socket.socket:
    """Connect to a machine's supervisor, which has this process id (0: it is not known here).

    Raises UsageError when no process listens, or a process other than that.
    """
    try:
        calling = private_sockets.connect(directory, NAME, _PATIENCE)
    except OSError as error:
        raise _unserved() from error
    if supervisor and private_sockets.peer(calling)[0] != supervisor:
        calling.close()
        raise _unserved()
    return calling


def _unserved() -> UsageError:
    hint = "mvm ps lists the running ones; a builder VM serves its build alone"
    return UsageError("the machine does not accept control connections", hint=hint)
