"""What pins/sources.py and the adapters of registries say to each other: commands, failures, progress; no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, Protocol

from mvmnix.builder.fetch.routes import Route
from mvmnix.model import Source
from mvmnix.sandbox.helper_command import WORK
from mvmnix.sandbox.trusted_executables import Candidates

#: In the sandbox: where a client puts what it fetches, what it was given as `input`, and the port of its way out, on
#: 127.0.0.1: SOCKS 5, or the configured proxy itself.
FILES: Final = f"{WORK}/files"
INPUT: Final = f"{WORK}/input"
PROXY_PORT: Final = 1080


class FailureKind(IntEnum):
    """Why a download failed, the worst last: no such file (any more), could not be asked, had other bytes."""

    GONE = 1
    FAILED = 2
    WRONG = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed download; `why` in the registry's own words."""

    trouble: FailureKind
    why: str

    def joined(self, other: "Failure") -> "Failure":
        """What two places said of one file: the worse trouble, both reasons."""
        whys = dict.fromkeys((*self.why.split("; "), *other.why.split("; ")))
        return Failure(max(self.trouble, other.trouble), "; ".join(whys))

    def because(self, refusals: Sequence[str]) -> "Failure":
        """The same with what the gateway refused meanwhile."""
        return Failure(self.trouble, "; ".join(dict.fromkeys((self.why, *refusals))))


@dataclass(frozen=True, slots=True)
class Command:
    """A client to run in the sandbox (downloads.py): its program and arguments, and where it may connect to.

    `files` of the host are read-only, by their path inside; `environment` and `input`, the bytes of the file INPUT,
    are on no command line, so they may be secret.
    """

    program: Candidates
    arguments: tuple[str, ...]
    route: Route
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, Path | int] = field(default_factory=dict)
    input: bytes = field(default=b"", repr=False)


class Progress(Protocol):
    """Who is told how far a download is."""

    def total(self, files: int) -> None:
        """So many files are missing and will be fetched."""

    def advance(self, name: str, size: int) -> None:
        """A file of `size` bytes arrived and was checked."""


class Mirror(Protocol):
    """One place that may serve a registry's files."""

    def command(self, batch: Sequence[Source]) -> Command:
        """The client that downloads a batch into FILES, which is empty."""

    def file(self, source: Source) -> str:
        """Under which name that client puts a source there."""

    def failures(self, batch: Sequence[Source], stderr: str) -> Mapping[Source, Failure]:
        """What of the batch the child, which failed, complained about."""


class Registry(Protocol):
    """A registry behind a `mirror://` scheme, reached through the machine's own configuration."""

    @property
    def scheme(self) -> str:
        """The prefix of the URIs that it answers for."""

    @property
    def batch(self) -> int:
        """How many files one child gets."""

    def mirrors(self) -> Sequence[Mirror]:
        """Where to try, in this order. Raises MvmnixError."""

    def describe(self, source: Source) -> tuple[str, str]:
        """The name and version of the package. Raises ValueError for what can't be one of the registry's files."""

    def repair(self, sources: Sequence[Source]) -> str:
        """The one command that repairs pins that the registry no longer serves."""
