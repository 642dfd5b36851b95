"""Names places that flakes come from, as a lock file's attributes give them, in the URL form of flake references; pure.

Nix manual, `nix flake`, "Flake references"; nix: libfetchers. Neither form carries user information.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote, urlsplit

type Attributes = Mapping[str, str | int | bool]


class NodeKind(StrEnum):
    """How Nix fetches a locked tree (nix: libfetchers)."""

    GITHUB = "github"
    GITLAB = "gitlab"
    SOURCEHUT = "sourcehut"
    GIT = "git"
    TARBALL = "tarball"
    FILE = "file"


FORGES: Final = (NodeKind.GITHUB, NodeKind.GITLAB, NodeKind.SOURCEHUT)


@dataclass(frozen=True, slots=True)
class Forge:
    """A repository at a forge that is asked for archives; an empty `host` is the forge's own."""

    kind: NodeKind
    owner: str
    repo: str
    host: str = ""
    rev: str = ""
    ref: str = ""

    @property
    def uri(self) -> str:
        """The flake reference."""
        version = self.rev or self.ref
        host = f"?host={self.host}" if self.host else ""
        return f"{self.kind}:{self.owner}/{self.repo}{f'/{version}' if version else ''}{host}"


@dataclass(frozen=True, slots=True)
class Git:
    """A git repository by its URL. `ref` says where a commit is looked for that the server doesn't give by its name."""

    url: str
    rev: str = ""
    ref: str = ""

    @property
    def uri(self) -> str:
        """The flake reference; a commit says all, so that `ref` stands only where there is none."""
        name, value = ("rev", self.rev) if self.rev else ("ref", quote(self.ref))
        return f"git+{self.url}" + (f"{'&' if '?' in self.url else '?'}{name}={value}" if value else "")


@dataclass(frozen=True, slots=True)
class Web:
    """A file by its URL: an archive, which is unpacked, or a plain one."""

    kind: NodeKind
    url: str

    @property
    def uri(self) -> str:
        """The flake reference; a plain file's has a prefix."""
        return f"file+{self.url}" if self.kind is NodeKind.FILE else self.url


@dataclass(frozen=True, slots=True)
class Local:
    """A path, as it is written; a relative one means a directory in the tree of the flake that names it."""

    path: str

    @property
    def uri(self) -> str:
        """The flake reference."""
        return f"path:{self.path}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A place of another type: a registry's entry, a fetcher that mvm doesn't know."""

    type: str
    id: str

    @property
    def uri(self) -> str:
        """The flake reference of a registry's entry; of anything else, something to show."""
        return f"flake:{self.id}" if self.type == "indirect" else f"{self.type}:{self.id}"


type Place = Forge | Git | Web | Local | Unknown


def place(attributes: Attributes) -> Place:
    """The place that these attributes name; what they lack is empty there."""

    def text(name: str) -> str:
        return str(attributes.get(name, ""))

    kind = text("type")
    if kind == "path":
        return Local(text("path"))
    if kind not in set(NodeKind):
        return Unknown(kind, text("id") or text("url"))
    match NodeKind(kind):
        case NodeKind.GIT:
            return Git(text("url"), text("rev"), text("ref"))
        case NodeKind.TARBALL | NodeKind.FILE as web:
            return Web(web, text("url"))
        case forge:
            return Forge(forge, text("owner"), text("repo"), text("host"), text("rev"), text("ref"))


def differences(original: Place, locked: Place) -> Iterator[str]:
    """In what a locked place is another one than what was asked for; nothing when it fits.

    A commit or branch may be filled in, but not exchanged. A file's URL may lead to another one of the same origin, as
    a redirect does; a repository's may not.
    """
    match original, locked:
        case Forge(), Forge():
            pairs = {
                "type": (original.kind, locked.kind),
                "host": (original.host, locked.host),
                "owner": (original.owner, locked.owner),
                "repo": (original.repo, locked.repo),
                **_versions(original, locked),
            }
        case Git(), Git():
            pairs = {"URL": (original.url, locked.url), **_versions(original, locked)}
        case Web(), Web():
            pairs = {"type": (original.kind, locked.kind), "host": (_origin(original.url), _origin(locked.url))}
        case Local(), Local():
            pairs = {"path": (original.path, locked.path)}
        case _:
            pairs = {"type": (_type(original), _type(locked))}
    yield from (f"{name} {asked!r} became {got!r}" for name, (asked, got) in pairs.items() if asked != got)


def _versions(original: Forge | Git, locked: Forge | Git) -> dict[str, tuple[str, str]]:
    found = {}
    if original.rev:
        found["rev"] = (original.rev, locked.rev)
    if original.ref and locked.ref:
        found["ref"] = (original.ref, locked.ref)
    return found


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.netloc}".lower()


def _type(place: Place) -> str:
    match place:
        case Git():
            return "git"
        case Local():
            return "path"
        case Unknown():
            return place.type
        case Forge() | Web():
            return place.kind
