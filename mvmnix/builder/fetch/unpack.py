"""Turns an archive or a repository into the tree that Nix would make of it, in the sandbox; evaluates nothing.

Nix itself unpacks, since a tree has the hash that its version of the rules gives it. It works on what is in the sandbox
alone; git, before it, reaches one origin through the gateway. The tree comes out as a NAR on stdout, in bounds.

Nix unpacks in two ways. For a node of a lock it does what `nix flake prefetch` does; for a fixed output what fetchzip
does (nix-prefetch-url(1), `--unpack`): where the archive holds one directory and nothing beside it, that directory's
contents.
"""

import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from mvmnix.arguments import Commit, GitRef
from mvmnix.builder.fetch.allowlist import Url
from mvmnix.builder.fetch.routes import ToOrigin
from mvmnix.builder.fetch.socks_proxy import Gateway, listening_at
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, clipped, refuse
from mvmnix.formats import strict
from mvmnix.model import StorePath
from mvmnix.sandbox import git
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import WORK, Bounds
from mvmnix.system import process
from mvmnix.system.child_causes import Cause
from mvmnix.system.store import chunks

#: nix.conf(5): a store of the sandbox's own, no substituter, no registry, no configuration of a user or the system.
NIX: Final = MappingProxyType(
    {
        "NIX_CONF_DIR": f"{WORK}/none",
        "NIX_USER_CONF_FILES": "",
        "NIX_CONFIG": "\n".join(
            (
                "experimental-features = nix-command flakes",
                "build-users-group =",
                "substitute = false",
                "flake-registry =",
                "use-registries = false",
                "accept-flake-config = false",
                f"store = {WORK}/store",
            )
        ),
    }
)
_ARCHIVE: Final = "/archive"
_CERTIFICATES: Final = "/certificates"
#: A line of Nix's or git's answer is no longer, in bytes.
_LINE: Final = 64 << 10
#: Characters of what a helper said, in a message.
_WORDS: Final = 900
#: One at a time: a tree lies in memory while it is unpacked.
_ONE: Final = threading.Lock()
#: Prints the branch, what Nix says of the tree, and the tree; each line is one answer. (The path has no quotes.)
_TREE: Final = r"""
said=$(nix flake prefetch --json "$url")
path=${said##*'"storePath":"'}
printf '%s\n%s\n' "$ref" "$said"
exec nix-store --dump "store${path%%'"'*}"
"""
_UNPACK: Final = rf"""
ref= url=tarball+file://{_ARCHIVE}
{_TREE}"""
#: As fetchzip unpacks; prints the tree alone.
_FETCHZIP: Final = rf"""
nix-prefetch-url --unpack --print-path --name source "file://{_ARCHIVE}" >printed
exec nix-store --dump "{WORK}/store$(tail -n 1 printed)"
"""
#: $1 URL, $2 branch, $3 commit, $4 how much (Depth), $5 `all` to look in all branches and tags.
#: A server of plain files gives neither single commits nor shallow histories. What is fetched lies under names of its
#: own, so that no branch of the repository's becomes the current one.
_CLONE: Final = rf"""
git init --quiet repository
cd repository
ref=$2 commit=$3
if [ -z "$ref" ] && [ "$4" != commit ]; then
  ref=$(git ls-remote --symref -- "$1" HEAD | sed -n 's/^ref: \([^[:space:]]*\)[[:space:]]*HEAD$/\1/p')
  ref=${{ref:-HEAD}}
fi
if [ "$4" != history ] && git fetch --quiet --depth=1 --no-tags -- "$1" "${{commit:-$ref}}" 2>/dev/null; then
  found=FETCH_HEAD
elif [ -n "$ref" ] && [ "$5" != all ]; then
  git fetch --quiet --no-tags -- "$1" "+$ref:refs/theirs/asked"
  found=refs/theirs/asked
else
  git fetch --quiet --no-tags -- "$1" '+refs/heads/*:refs/theirs/heads/*' '+refs/tags/*:refs/theirs/tags/*'
  found=refs/theirs/${{ref#refs/}}
fi
commit=${{commit:-$(git rev-parse --verify "$found^{{commit}}")}}
git cat-file -e "$commit^{{commit}}"
cd ..
url="git+file://{WORK}/repository?rev=$commit"
if [ "$4" != history ]; then url="$url&shallow=1"; fi
{_TREE}"""


class Depth(StrEnum):
    """How much of a repository is fetched, where its server can choose: a commit, a branch's newest, all before it."""

    COMMIT = "commit"
    NEWEST = "newest"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A tree: its archive in an open file, from an offset on, and what Nix says of it.

    `modified` is the newest file's or the commit's time in seconds, `revisions` the number of commits, 0 where unknown.
    """

    file: IO[bytes]
    offset: int
    nar: Digest
    modified: int
    rev: str
    revisions: int
    ref: str

    def archive(self) -> Iterator[bytes]:
        """The NAR, in chunks."""
        skip = self.offset
        for chunk in chunks(self.file.fileno()):
            yield chunk[skip:]
            skip = max(0, skip - len(chunk))


@contextmanager
def unpacked_archive(uri: str, archive: Path, bounds: Bounds) -> Iterator[Unpacked]:
    """The tree in a file that Nix can unpack. Raises RefusedError [source-unusable]."""
    sandbox = Sandbox({_ARCHIVE: archive}, NIX, bounds=bounds)
    with tempfile.TemporaryFile(prefix="mvmnix-tree-") as output:
        try:
            with _ONE:
                sandbox.script(_UNPACK, output=output)
        except process.ProcessError as error:
            raise _unusable(uri, error) from error
        yield _read(uri, output)


@contextmanager
def fetchzip(archive: Path, bounds: Bounds) -> Iterator[IO[bytes]]:
    """The NAR that fetchzip would make of an archive, as a file at its first byte.

    Raises process.ProcessError, MvmnixError.
    """
    with tempfile.TemporaryFile(prefix="mvmnix-unpack-") as nar:
        with _ONE:
            Sandbox({_ARCHIVE: archive}, NIX, bounds=bounds).script(_FETCHZIP, output=nar)
        nar.seek(0)
        yield nar


@dataclass(frozen=True, slots=True)
class Checkout:
    """What of a repository is wanted: a commit, or the newest of a branch; `authorization` a secret header or "".

    Raises RefusedError [argument-unsafe] for what git would take for something else than one commit and one ref.
    """

    url: Url
    rev: str
    ref: str
    depth: Depth = Depth.COMMIT
    everywhere: bool = False
    authorization: str = field(default="", repr=False)
    certificates: str = ""

    def __post_init__(self) -> None:
        if self.rev:
            Commit(self.rev)
        if self.ref:
            GitRef(self.ref)


@contextmanager
def unpacked_commit(uri: str, wanted: Checkout, bounds: Bounds) -> Iterator[Unpacked]:
    """The tree of a commit. Raises MvmnixError when there is none, or its server can't be reached."""
    with (
        tempfile.TemporaryDirectory(prefix="mvmnix-git-") as directory,
        tempfile.TemporaryFile(prefix="mvmnix-tree-") as output,
    ):
        path = Path(directory, "socket")
        with Gateway(listening_at(path), ToOrigin(wanted.url), bounds.output) as gateway:
            files = {_CERTIFICATES: Path(wanted.certificates)} if wanted.certificates else {}
            environment = {**git.environment(_git(wanted)), **NIX}
            sandbox = Sandbox(files, environment, path, bounds=bounds)
            where = "all" if wanted.everywhere else ""
            try:
                with _ONE:
                    sandbox.script(_CLONE, str(wanted.url), wanted.ref, wanted.rev, wanted.depth, where, output=output)
            except process.ProcessError as error:
                hint = "look whether the commit is still there, at the network, and at what git says"
                said = clipped("; ".join((*_words(error), *gateway.refusals)), lines=1, characters=_WORDS)
                hint = hint if error.kind is Cause.OWN else error.hint
                raise MvmnixError(f"{uri} could not be fetched: {said}", hint=hint) from error
        yield _read(uri, output)


def certificates(environment: Mapping[str, str]) -> str:
    """The bundle of certificates that the environment names, if any; git has the system's otherwise."""
    return environment.get("SSL_CERT_FILE") or environment.get("NIX_SSL_CERT_FILE") or ""


def _git(wanted: Checkout) -> dict[str, str]:
    """Git's configuration, which reaches it through the environment."""
    settings = {"http.sslCAInfo": _CERTIFICATES} if wanted.certificates else {}
    if wanted.authorization:
        settings[f"http.{wanted.url.origin}/.extraHeader"] = f"Authorization: {wanted.authorization}"
    return settings


def _read(uri: str, output: IO[bytes]) -> Unpacked:
    """What the scripts printed."""
    output.seek(0)
    ref, said = output.readline(_LINE), output.readline(_LINE)
    offset = output.tell()
    try:
        nar, locked = strict.read(strict.parse_json(said), "nix flake prefetch", _answer)
    except strict.MalformedError as error:
        raise MvmnixError(f"{uri}: Nix says something else than expected: {error}", hint="use Nix 2.26") from error
    modified, rev, revisions = locked
    return Unpacked(output, offset, nar, modified, rev, revisions, ref.decode(errors="replace").strip())


def _answer(record: strict.Record) -> tuple[Digest, tuple[int, str, int]]:
    record.value("original")
    path = record.parsed("storePath", StorePath.parse, StorePath("0" * 32, "source"))
    nar = record.parsed("hash", Digest.from_sri, Digest("0" * 64))
    if path != StorePath.recursive("source", nar):
        raise ValueError("its store path is not the one of its hash")
    return nar, record.child("locked", _locked)


def _locked(record: strict.Record) -> tuple[int, str, int]:
    for name in record.names():
        record.value(name)
    return (
        record.integer("lastModified", 0, 2**53) if record.has("lastModified") else 0,
        record.text("rev", r"[0-9a-f]{40}") if record.has("rev") else "",
        record.integer("revCount", 0, 2**53) if record.has("revCount") else 0,
    )


def _unusable(uri: str, error: process.ProcessError) -> MvmnixError:
    why = f"it can't be unpacked, or not within bounds: {'; '.join(_words(error))}"
    hint = "look at it by hand; if it is good, it may be too large" if error.kind is Cause.OWN else error.hint
    return refuse(ReasonCode.SOURCE_UNUSABLE, uri, why, hint)


def _words(error: process.ProcessError) -> list[str]:
    """The first cause and the last words of a helper, without Nix's lament that it has no network."""
    said = error.done.stderr.decode(errors="replace").splitlines()
    lines = [re.sub(r"\s+", " ", line).strip() for line in said if "have Internet access" not in line]
    last = [line[:300] for line in lines if line][-4:]
    first = re.sub(r"\s+", " ", error.cause).strip()
    return list(dict.fromkeys((first, *last) if first and "have Internet access" not in first else last)) or [
        f"status {error.done.status}"
    ]
