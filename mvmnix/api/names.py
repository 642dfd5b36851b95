"""Lists names of what is kept here, for completion: makes, verifies and changes nothing, and loads little."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from mvmnix.launch.machines import registry
from mvmnix.private_dirs import Directory
from mvmnix.roots import Roots

#: What a shell may be given: it splits words, and takes some signs for itself.
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIGEST: Final = re.compile("[0-9a-f]{64}")
#: So many digits of a digest are shown.
_DIGITS: Final = 12


def has_state(environment: Mapping[str, str]) -> bool:
    """Whether there is a state directory. Raises UsageError."""
    return os.path.isdir(Roots.from_environment(environment).paths["state"])  # noqa: PTH112 - a text


def machine_names(environment: Mapping[str, str], states: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the machines in these states, or of all, the youngest first. Raises OSError, MvmnixError."""
    with _state(environment) as state, state.existing("machines") as machines:
        entries = reversed(registry.list_entries(machines))
        return _words(
            entry.status.name or entry.status.machine for entry in entries if not states or entry.state in states
        )


def image_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The names of kept images, by their manifests. Raises as above."""
    from mvmnix.images import (  # noqa: PLC0415 - machines don't pay for it
        ImageStore,
        KeptImages,
        StoreDirectory,
    )

    with _state(environment) as state:
        if not all(map(state.exists, (*StoreDirectory, "builds"))):
            return ()  # opening a library makes what is missing of it
        with ImageStore(state) as library:
            return _words(sorted(KeptImages(library).names()))


def plan_digests(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The beginnings of the digests of kept plans. Raises as above."""
    with _state(environment) as state, state.existing("plans") as plans:
        return _words(name[:_DIGITS] for name in plans.names() if _DIGEST.fullmatch(name))


@contextmanager
def _state(environment: Mapping[str, str]) -> Iterator[Directory]:
    """The state directory, which is not made."""
    with Directory.open(Roots.from_environment(environment).paths["state"]) as state:
        yield state


def _words(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if _WORD.fullmatch(name)))
