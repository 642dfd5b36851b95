"""The nouns that every room shares: store paths, flake references, artifacts and images; no I/O."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self, override

from mvmnix.arguments import AttributePath, is_subdirectory
from mvmnix.digest import NIX32, Digest, nix32
from mvmnix.words import check_words


class SystemCalls(StrEnum):
    """How much of the guest's kernel a workload may ask for; what each of them refuses: docs/reference/guests.md.

    From the least to the most: `strict` also refuses what programs can do without that were written for such a place,
    `namespaces` lets through what a sandbox like Nix's is made of.
    """

    STRICT = "strict"
    DEFAULT = "default"
    NAMESPACES = "namespaces"

    def within(self, other: "SystemCalls") -> bool:
        """Whether this lets through no more than the other.

        >>> [[str(it) for it in SystemCalls if it.within(other)] for other in SystemCalls]
        [['strict'], ['strict', 'default'], ['strict', 'default', 'namespaces']]
        """
        order = list(SystemCalls)
        return order.index(self) <= order.index(other)


STORE_DIR = "/nix/store"
SYSTEM = "x86_64-linux"
#: A DNS name that can't be taken for an address: its last label begins with a letter (RFC 1123, section 2.1).
DNS_NAME = r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?"

#: As Nix takes one (nix: libstore/path.cc, checkName): no `.` and `..`, nor what has one of them before a dash.
_STORE_NAME = re.compile(r"(?!\.\.?(-|$))[0-9a-zA-Z+\-._?=]{1,211}")
_STORE_BASE = re.compile(rf"([{NIX32}]{{32}})-({_STORE_NAME.pattern})")


def store_name(text: str) -> str:
    """The name under which a file of that name goes to the Nix store: what Nix forbids becomes `_`."""
    return re.sub(r"[^0-9a-zA-Z+\-._?=]", "_", text).lstrip(".")


def _with_references(kind: str, references: "Iterable[StorePath]") -> str:
    return ":".join((kind, *sorted(map(str, references))))


@dataclass(frozen=True, slots=True, order=True)
class StorePath:
    """A path in /nix/store: 32 characters of hash and a name."""

    hash: str
    name: str

    def __post_init__(self) -> None:
        if not _STORE_BASE.fullmatch(f"{self.hash}-{self.name}"):
            raise ValueError(f"not a store path: {self.hash}-{self.name}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `/nix/store/<hash>-<name>`. Raises ValueError."""
        match = _STORE_BASE.fullmatch(text.removeprefix(STORE_DIR + "/"))
        if match is None or not text.startswith(STORE_DIR + "/"):
            raise ValueError(f"not a store path: {text!r}")
        return cls(match[1], match[2])

    @classmethod
    def flat(cls, name: str, digest: Digest) -> Self:
        """Where a fixed output goes that is hashed as a plain file (Nix manual, "Store Path Specification")."""
        return cls.fixed(name, "sha256", digest.hex)

    @classmethod
    def fixed(cls, name: str, algorithm: str, digest: str) -> Self:
        """Where a fixed output goes by another method or algorithm, such as `r:sha512`, with its digits."""
        return cls._make("output:out", Digest.of(f"fixed:out:{algorithm}:{digest}:".encode()), name)

    @classmethod
    def recursive(cls, name: str, nar_hash: Digest, references: "Iterable[StorePath]" = ()) -> Self:
        """Where a source or fixed output goes that is hashed as a NAR; a fixed output has no references."""
        return cls._make(_with_references("source", references), nar_hash, name)

    @classmethod
    def text(cls, name: str, digest: Digest, references: "Iterable[StorePath]" = ()) -> Self:
        """Where a file goes that evaluation wrote, such as a derivation."""
        return cls._make(_with_references("text", references), digest, name)

    @classmethod
    def output(cls, name: str, output: str, derivation: Digest) -> Self:
        """Where an output goes that is addressed by what it is made from: by its derivation's digest modulo inputs."""
        return cls._make(f"output:{output}", derivation, name if output == "out" else f"{name}-{output}")

    @classmethod
    def _make(cls, kind: str, inner: Digest, name: str) -> Self:
        if not _STORE_NAME.fullmatch(name):
            raise ValueError(f"not a store path's name: {name!r}")
        digest = Digest.of(f"{kind}:sha256:{inner.hex}:{STORE_DIR}:{name}".encode())
        folded = bytearray(20)
        for index, byte in enumerate(digest.raw):
            folded[index % 20] ^= byte
        return cls(nix32(bytes(folded)), name)

    @override
    def __str__(self) -> str:
        return f"{STORE_DIR}/{self.hash}-{self.name}"


class HashMode(StrEnum):
    """What of a file is hashed: its bytes, or its Nix archive (which knows directories and the executable bit)."""

    FLAT = "flat"
    NAR = "nar"


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A file that may enter a build: where it comes from and what its bytes must hash to.

    `uri` is a `mirror://` or another URL without user information, printable and without spaces; `name` the store
    path's name. Raises ValueError for others.
    """

    uri: str
    name: str
    digest: Digest
    mode: HashMode = HashMode.FLAT

    def __post_init__(self) -> None:
        if not (_STORE_NAME.fullmatch(self.name) and self.uri and self.uri.isprintable() and " " not in self.uri):
            raise ValueError(f"not the name and the address of a source: {self.name[:80]!r}, {self.uri[:80]!r}")

    @property
    def store_path(self) -> StorePath:
        """Where Nix puts it."""
        make = StorePath.flat if self.mode is HashMode.FLAT else StorePath.recursive
        return make(self.name, self.digest)


@dataclass(frozen=True, slots=True)
class FlakeRef:
    """What the user named: a directory and an attribute of its flake.

    `copy` is true for an explicit `path:` reference, which is taken as it lies there instead of from a git commit; its
    flake may stand in a subdirectory (`?dir=`), where a git reference finds the top of the work tree by itself.
    """

    directory: str
    attribute: str = "default"
    copy: bool = False
    subdirectory: str = ""

    def __post_init__(self) -> None:
        if AttributePath.problem(self.attribute):
            raise ValueError(f"not an attribute path: {self.attribute!r}")
        if not is_subdirectory(self.subdirectory):
            raise ValueError(f"not a subdirectory: {self.subdirectory!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `DIR`, `DIR#ATTR`, `path:DIR#ATTR` or `path:DIR?dir=SUB#ATTR`. Raises ValueError."""
        where, _, attribute = text.partition("#")
        copy = where.startswith("path:")
        directory, _, query = where.removeprefix("path:").partition("?")
        if ":" in directory or (query and not (copy and query.startswith("dir="))):
            raise ValueError(f"only DIR, path:DIR and path:DIR?dir=SUB are flake references here, not {text!r}")
        return cls(directory or ".", attribute or "default", copy, query.removeprefix("dir="))

    @override
    def __str__(self) -> str:
        query = f"?dir={self.subdirectory}" if self.subdirectory else ""
        return ("path:" if self.copy else "") + f"{self.directory}{query}#{self.attribute}"


@dataclass(frozen=True, slots=True, order=True)
class Artifact:
    """One file of an image: its name there, the digest of its bytes, its size in bytes."""

    name: str
    digest: Digest
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"negative size: {self.size}")


@dataclass(frozen=True, slots=True)
class Verity:
    """A dm-verity tree (kernel: Documentation/admin-guide/device-mapper/verity.rst): SHA-256, 4,096-byte blocks.

    `hash_offset` is in bytes, where the superblock stands that follows the data.
    """

    root: Digest
    salt: bytes
    uuid: str
    data_blocks: int
    hash_offset: int
    BLOCK: ClassVar[int] = 4096

    def __post_init__(self) -> None:
        if self.data_blocks <= 0 or self.hash_offset != self.data_blocks * self.BLOCK:
            raise ValueError("the hash tree does not follow the data")
        if len(self.salt) > 256:
            raise ValueError("a verity salt has at most 256 bytes")


class Posture(StrEnum):
    """How a guest may be talked to: not at all, or by verbs that the plan grants one by one."""

    DEV = "dev"
    SEALED = "sealed"


class Verb(StrEnum):
    """What the host may ask of a running guest, or a guest of the host; `snapshot` is for the host alone to answer."""

    EXEC = "exec"
    STREAM = "stream"
    SHELL = "shell"
    COPY = "copy"
    SNAPSHOT = "snapshot"


class DirectoryOrder(StrEnum):
    """In which order a guest's writable directories list their names: as a tmpfs does, newest first, or in reverse."""

    NATURAL = "natural"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class User:
    """The workload's numeric user and group; never root."""

    uid: int
    gid: int

    def __post_init__(self) -> None:
        if not (0 < self.uid < 2**32 - 1 and 0 < self.gid < 2**32 - 1):
            raise ValueError(f"the workload runs as an unprivileged user, not as {self.uid}:{self.gid}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the user of UID or UID:GID, whose gid is the uid where it is left out. Raises ValueError.

        >>> User.parse("1000")
        User(uid=1000, gid=1000)
        """
        found = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", text, re.ASCII)
        if found is None:
            raise ValueError(f"not a numeric user: {text[:80]!r}; mvm reads no user names from an image")
        return cls(int(found[1]), int(found[2] or found[1]))


#: The words of a command, or several names. `Sequence[str]` would admit a `str`, as a sequence of its characters.
@dataclass(frozen=True, slots=True)
class Workload:
    """A command in a guest: arguments (no shell), environment, absolute working directory, user."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    user: User

    def __post_init__(self) -> None:
        object.__setattr__(self, "argv", check_words(self.argv))


@dataclass(frozen=True, slots=True)
class Image:
    """What manifest.json says of a guest image. `manifest` describes manifest.json itself; `_mib` are mebibytes.

    `network`: it has the driver for one, and files that the machine's own are mounted over.
    """

    name: str
    manifest: Artifact
    kernel: Artifact
    initrd: Artifact
    rootfs: Artifact
    verity: Verity
    command_line: str
    workload: Workload
    vcpus: int
    memory_mib: int
    scratch_mib: int
    posture: Posture
    verbs: frozenset[Verb]
    writable: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    system_calls: SystemCalls = SystemCalls.DEFAULT
    network: bool = False

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The four files, in the order in which claims name them."""
        return (self.kernel, self.initrd, self.rootfs, self.manifest)
