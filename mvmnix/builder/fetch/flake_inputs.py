"""Brings the trees that lock nodes name, each when it is asked for, into the source store by their hash.

1. What the lock says decides the one address that is asked, and the allowlist whether it may be.
2. A tree counts as fetched only where this very URI gave it here; another one that claims its hash is asked itself.
3. A credential goes to the origin of the node that the configuration names it for, and nowhere else.
4. Bytes are unpacked in the sandbox (unpack.py); their archive's hash is the lock's narHash, or nothing is kept.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from mvmnix.builder.fetch.credentials import Credentials
from mvmnix.builder.fetch.forges import archive_url
from mvmnix.builder.fetch.https import Downloader, Response
from mvmnix.builder.fetch.unpack import Checkout, Unpacked, certificates, unpacked_archive, unpacked_commit
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats import nar
from mvmnix.formats.flake_references import Forge, Git, NodeKind, Web
from mvmnix.formats.lock import LockedNode
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store, chunks


class Fetched:
    """Which trees were fetched here, and from where: an empty file for each pair of URI and hash.

    It says that this place gave these bytes once; the bytes themselves are hashed whenever they are used.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def has(self, uri: str, digest: Digest) -> bool:
        """Whether that URI gave this tree."""
        return self._directory.exists(_pair(uri, digest))

    def add(self, uri: str, digest: Digest) -> None:
        """That URI gave this tree."""
        self._directory.write_atomic(_pair(uri, digest), b"")


@dataclass(frozen=True, slots=True)
class FetchEnvironment:
    """What fetching trees needs of the world: `environment` is looked at for certificates."""

    downloads: Downloader
    fetched: Fetched
    credentials: Credentials = field(default_factory=Credentials)
    bounds: Bounds = field(default_factory=Bounds)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def bring_tree(node: LockedNode, store: Store, fetching: FetchEnvironment) -> None:
    """The archive of a locked tree into the store, under its digest.

    Raises RefusedError [fetch-not-allowed, fetch-limit, source-mismatch, source-unusable], and MvmnixError when it
    can't be had.
    """
    # 2. what was fetched from there
    if fetching.fetched.has(node.uri, node.nar) and store.has(node.nar):
        return
    # 1. the address; 3. the credential
    authorization = fetching.credentials.authorization(node.uri)
    match node.place:
        case Git() as place:
            checkout = Checkout(
                fetching.downloads.allowed.admit(place.url),
                place.rev,
                qualified_ref(place.ref),
                authorization=authorization,
                certificates=certificates(fetching.environment),
            )
            with unpacked_commit(node.uri, checkout, fetching.bounds) as tree:
                keep_archive(node.uri, tree.archive(), node.nar, store)
        case Web(kind=NodeKind.FILE) as place:
            with downloaded_file(place.url, fetching, authorization) as (file, _):
                keep_archive(node.uri, file_archive(file), node.nar, store)
        case Web() as place:
            with downloaded_tree(node.uri, place.url, fetching, authorization) as (tree, _):
                keep_archive(node.uri, tree.archive(), node.nar, store)
        case Forge() as place:
            url = archive_url(place, fetching.downloads.allowed, private=bool(authorization))
            with downloaded_tree(node.uri, url, fetching, authorization) as (tree, _):
                keep_archive(node.uri, tree.archive(), node.nar, store)
        case _:
            assert_never(node.place)
    fetching.fetched.add(node.uri, node.nar)


def keep_archive(uri: str, content: Iterable[bytes], expected: Digest, store: Store) -> None:
    """Put an archive into the store. Raises RefusedError [source-mismatch] when it is another one."""
    # 4. the hash
    try:
        store.put(content, expected)
    except RefusedError as error:
        why = f"its tree is not the one that was locked: {error.reasons[0].why}"
        hint = "find out who changed it; lock it again, if it was changed for a good reason"
        raise refuse(ReasonCode.SOURCE_MISMATCH, uri, why, hint) from error


@contextmanager
def downloaded_file(url: str, fetching: FetchEnvironment, authorization: str) -> Iterator[tuple[Path, Response]]:
    """A file, as long as it is looked at."""
    headers = {"Authorization": authorization} if authorization else {}
    with tempfile.TemporaryDirectory(prefix="mvmnix-tree-") as directory:
        path = Path(directory, "file")
        with path.open("wb") as file:
            response = fetching.downloads.get(url, file.write, headers=headers, limit=fetching.bounds.output)
        yield path, response


@contextmanager
def downloaded_tree(
    uri: str, url: str, fetching: FetchEnvironment, authorization: str
) -> Iterator[tuple[Unpacked, Response]]:
    """The tree in an archive that lies at a URL."""
    with (
        downloaded_file(url, fetching, authorization) as (file, response),
        unpacked_archive(uri, file, fetching.bounds) as tree,
    ):
        yield tree, response


def file_archive(path: Path) -> Iterator[bytes]:
    """The NAR of a single file, which Nix does not make executable."""
    with path.open("rb") as file:
        yield from nar.nar_of_file(path.stat().st_size, chunks(file.fileno()))


def qualified_ref(ref: str) -> str:
    """The full name of a branch (nix: libfetchers/git.cc): what does not begin with `refs/` is one of `refs/heads/`."""
    return ref if not ref or ref == "HEAD" or ref.startswith("refs/") else f"refs/heads/{ref}"


def _pair(uri: str, digest: Digest) -> str:
    return Digest.of(f"{digest.hex} {uri}".encode()).hex
