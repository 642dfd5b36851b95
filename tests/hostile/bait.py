"""What a way out of a sandbox would find, and what was said of each way."""

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.hostile import ways_out
from tests.patience import until

_LIBC = ctypes.CDLL(None, use_errno=True)
_ADD_KEY, _KEYCTL, _SESSION, _REVOKE = 248, 250, -3, 3


def binds(server: socket.socket, address: Any) -> bool:
    """Whether a socket has an address now, which another run of these tests may have."""
    try:
        server.bind(address)
    except OSError as error:
        assert error.errno == errno.EADDRINUSE, error
        return False
    return True


@pytest.fixture
def bait() -> Iterator[None]:
    """What a way out would find: a key of the caller, listening sockets, a variable, a file that others can't read."""
    with ExitStack() as stack:
        key = _LIBC.syscall(_ADD_KEY, b"user", ways_out.CANARY.encode(), b"secret", 6, _SESSION)
        if key > 0:
            stack.callback(_LIBC.syscall, _KEYCTL, _REVOKE, key)
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", ways_out.PORT)),
            (socket.AF_UNIX, f"\0{ways_out.CANARY}"),
        ):
            server = stack.enter_context(socket.socket(family))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            until(lambda server=server, address=address: binds(server, address))  # type: ignore[misc]
            server.listen()
        os.environ[ways_out.CANARY] = "secret"
        stack.callback(os.environ.pop, ways_out.CANARY)
        yield


def judged(output: str) -> dict[str, str]:
    return dict(line.rsplit(": ", 1) for line in output.splitlines())
