"""What a fork of the launcher works with: mvm's own directories, as its caller reaches them, and the plan."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from mvmnix.api.context import Context
from mvmnix.api.frontend import Frontend
from mvmnix.api.signing import Signer
from mvmnix.errors import UsageError
from mvmnix.images.store import STATEMENT_LIMIT
from mvmnix.launch.control.own_directories import check_shown
from mvmnix.system import temporary
from mvmnix.system.roots import Roots
from mvmnix.system.store import read_sealed


@contextmanager
def open_for(frontend: Frontend, descriptors: Mapping[str, int] | None) -> Iterator[Context]:
    """Open a context on mvm's own directories, once a caller showed by `descriptors` that it reaches them.

    None: there is no caller. Passwords that the configuration refers to are the caller's to read. Raises RefusedError
    [caller-refused].
    """
    temporary.apply()
    with Roots.from_environment(os.environ) as roots, Context(roots, frontend) as context:
        if descriptors is not None:
            check_shown(roots, descriptors)
        context.signer = Signer(context.keys, lambda: replace(context.config, key_password=None), frontend)
        yield context


def read_plan(fd: int) -> bytes:
    """Return a signed plan, which is sealed memory. Raises UsageError."""
    try:
        return read_sealed(fd, STATEMENT_LIMIT)
    except (ValueError, OSError) as error:
        raise misplaced("the plan", error) from error


def misplaced(what: str, error: Exception) -> UsageError:
    """Return why something that was handed over can't be used."""
    hint = "the two may be of different versions of mvm"
    return UsageError(f"what was handed over for {what} can't be used: {error}", hint=hint)
