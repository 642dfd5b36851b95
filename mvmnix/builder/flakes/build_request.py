"""A request for a build; a module of its own, for callers that look for a finished one and open no session."""

from dataclasses import dataclass

from mvmnix.builder.flakes.flake_source import FlakeSource
from mvmnix.formats.lock import LockedFlake


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What shall be built: a root tree with its parsed lock, and the attribute of its packages."""

    flake: FlakeSource
    lock: LockedFlake
    attribute: str
