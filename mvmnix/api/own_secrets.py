"""Reads secrets that mvm itself needs, from where a reference says they lie: an environment variable, or a file."""

import os
from typing import assert_never

from mvmnix.config import SecretRef, TokenPlace
from mvmnix.errors import UsageError

#: No password or token is longer, in bytes.
_LIMIT = 64 << 10


def read_secret(where: SecretRef, what: str) -> str:
    """The secret, without a newline at its end. Raises UsageError when the reference leads nowhere."""
    match where.place:
        case TokenPlace.ENVIRONMENT:
            value = os.environ.get(where.name, "")
        case TokenPlace.FILE:
            value = _file(where, what)
        case _:
            assert_never(where.place)
    if not value:
        raise _unusable(where, what, "there is nothing")
    return value


def _file(where: SecretRef, what: str) -> str:
    try:
        # without waiting for a FIFO's other end
        with os.fdopen(os.open(where.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise _unusable(where, what, "others may read it: chmod 600")
            return file.read(_LIMIT).decode().removesuffix("\n")
    except OSError as error:
        raise _unusable(where, what, error.strerror or str(error)) from error
    except UnicodeDecodeError:
        raise _unusable(where, what, "it is not UTF-8") from None


def _unusable(where: SecretRef, what: str, why: str) -> UsageError:
    return UsageError(f"{what} can't be had from {where}: {why}", hint="correct the reference, or what it refers to")
