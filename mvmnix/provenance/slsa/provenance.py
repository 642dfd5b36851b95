"""The nouns of a build's provenance, and the one place that writes and reads them as a SLSA v1 predicate; pure.

The predicate is slsa.dev, spec v1.0, "Provenance"; what mvm puts into it is docs/reference/build-type.md.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest
from mvmnix.formats.lock import LockedFlake
from mvmnix.model import Artifact, Source, StorePath
from mvmnix.provenance.bundle.statement import Subject

#: The host's own Nix, for the first builder image only.
HOST_NIX: Final = "urn:mvmnix:builder:host-nix:1"
#: The builder VM, which has no network device.
MICROVM: Final = "urn:mvmnix:builder:microvm:1"
#: How the public keys of binary caches are written, name:base64 (nix: libutil/signature).
CACHE_KEY: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}:[A-Za-z0-9+/]{43}="

#: A hundred years, in seconds.
_LONGEST_OFFSET: Final = 3_155_760_000


@dataclass(frozen=True, slots=True)
class RootTree:
    """The flake's own tree: `git+…?rev=<commit>`, or `path:<label>` for a local copy that no commit has.

    `nar` is the SHA-256 of the tree's Nix archive, `commit` a Git object name, None for a copy.
    """

    uri: str
    nar: Digest
    commit: str | None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]{1,4096}", self.uri):
            raise ValueError(f"not the URI of a tree: {self.uri[:80]!r}")
        if self.commit is None:
            if not self.uri.startswith("path:"):
                raise ValueError("a tree without a commit is named path:…, for it is a local copy")
        elif not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.commit):
            raise ValueError(f"not a commit: {self.commit[:80]!r}")
        elif not self.uri.startswith("git+") or f"rev={self.commit}" not in re.split(r"[?&]", self.uri):
            raise ValueError("a tree with a commit is named git+…?rev=<commit>")


@dataclass(frozen=True, slots=True)
class LockedInput:
    """A locked tree, under the name of its node in flake.lock."""

    node: str
    source: Source


@dataclass(frozen=True, slots=True)
class UntouchedNode:
    """A node of flake.lock that evaluation never asked for, and the tree that it names."""

    node: str
    nar: Digest


@dataclass(frozen=True, slots=True)
class LockAccount:
    """Every node of a lock file: handed in, never touched, or a relative path, which the root tree covers."""

    inputs: tuple[LockedInput, ...]
    untouched: tuple[UntouchedNode, ...]
    relative: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Cached:
    """A store path that came in from a binary cache: `uri` is its NAR's, `key` the key that vouched for it.

    `nar` is the SHA-256 of the unpacked NAR, which is what the key signed; the cache may have packed it.
    """

    path: StorePath
    uri: str
    nar: Digest
    key: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]{1,4096}", self.uri):
            raise ValueError(f"not the URI of a NAR: {self.uri[:80]!r}")
        if not re.fullmatch(CACHE_KEY, self.key):
            raise ValueError(f"not a cache's key, name:base64: {self.key[:80]!r}")


@dataclass(frozen=True, slots=True, order=True)
class KeptPath:
    """A store path that mvm's own modules had built before, in a builder VM of its own.

    `bundle` is the digest of the signed statement (provenance/slsa/parts.py) that has to list it.
    """

    path: StorePath
    nar: Digest
    bundle: Digest


@dataclass(frozen=True, slots=True)
class Variation:
    """What a second build was made to see otherwise: `clock_offset` in seconds, and in which order directories list."""

    hostname: str
    clock_offset: int
    directory_order: str

    def __post_init__(self) -> None:
        for text in (self.hostname, self.directory_order):
            if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
                raise ValueError(f"not a plain word: {text[:80]!r}")
        if abs(self.clock_offset) > _LONGEST_OFFSET:
            raise ValueError(f"a clock is moved by at most {_LONGEST_OFFSET} seconds, not {self.clock_offset}")

    def shown(self) -> Mapping[str, object]:
        """As it stands in a provenance, and in a plan's predicate."""
        return {
            "hostname": self.hostname,
            "clockOffsetSeconds": self.clock_offset,
            "directoryOrder": self.directory_order,
        }


@dataclass(frozen=True, slots=True)
class Versions:
    """What built: the version of mvm and that of Nix."""

    mvm: str
    nix: str


@dataclass(frozen=True, slots=True)
class BuilderLimits:
    """What a build may use: processors, memory and scratch space in MiB, wall time in seconds."""

    vcpus: int
    memory_mib: int
    scratch_mib: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an image came to be.

    `directory` is where the flake lies in the root tree, "" for its top; `lock` the digest of flake.lock's bytes, None
    when the flake has none; `sources` the files that came in besides the trees; `builder_image` the four files of the
    builder VM's image, none for `HOST_NIX`; `derivation` the image's derivation. `cached` and `kept` are the store
    paths that came in; `from_derivation` says whether evaluation was allowed to build, and to read what it built;
    `variation` what this build, a second one of the same thing, was made to see otherwise; `sbom` is the SBOM's digest.
    """

    root: RootTree
    directory: str
    attribute: str
    lock: Digest | None
    nodes: LockAccount
    sources: tuple[Source, ...]
    builder_id: str
    builder_image: tuple[Subject, ...]
    versions: Versions
    limits: BuilderLimits | None
    invocation: str
    started: datetime
    finished: datetime
    derivation: StorePath | None
    cached: tuple[Cached, ...] = ()
    kept: tuple[KeptPath, ...] = ()
    from_derivation: bool = False
    variation: Variation | None = None
    sbom: Digest | None = None

    def __post_init__(self) -> None:
        if self.directory.startswith("/") or any(part in {".", ".."} for part in self.directory.split("/")):
            raise ValueError("the flake's directory leaves its tree")
        if (self.builder_id == HOST_NIX) == bool(self.builder_image):
            raise ValueError("the builder VM's image is named exactly when a builder VM built")


def lock_account(lock: LockedFlake, touched: Collection[Digest]) -> LockAccount:
    """Sort the nodes of a lock file by whether their tree was handed in; `touched` has the NAR digests that were."""
    return LockAccount(
        tuple(LockedInput(node.name, node.source) for node in lock.locked if node.nar in touched),
        tuple(UntouchedNode(node.name, node.nar) for node in lock.locked if node.nar not in touched),
        tuple(node.name for node in lock.relative),
    )


def subjects_of(artifacts: Iterable[Artifact]) -> tuple[Subject, ...]:
    """The subjects of a claim about these files."""
    return tuple(Subject.of(artifact) for artifact in artifacts)
