"""A program of a test's own in place of one of the system's: it isn't root's, as one has to be that mvm starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from mvmnix.sandbox import trusted_executables


@contextmanager
def trusted(program: Path) -> Iterator[None]:
    """Have it, and the directories that it lies in, count as root's; nothing else."""
    chain, own = trusted_executables._chain, {str(program), *map(str, program.parents)}
    with mock.patch.object(
        trusted_executables, "_chain", lambda path: [it for it in chain(path) if path != str(program) or it not in own]
    ):
        yield
