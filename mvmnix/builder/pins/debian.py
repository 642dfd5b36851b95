"""The apt adapter: it alone knows apt's command lines and what they print; builder/fetch runs the downloads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from mvmnix import process
from mvmnix.builder.fetch.registries import FILES, Command, Failure, FailureKind
from mvmnix.builder.pins import apt_settings
from mvmnix.builder.pins.apt_settings import AptSettings, ForMirror
from mvmnix.builder.pins.index import Index
from mvmnix.builder.pins.locks import DEBIAN_MIRROR, MIRROR_PATH
from mvmnix.errors import MvmnixError
from mvmnix.model import Source
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import Candidates, locate

HELPER = Candidates("apt-helper", ("/usr/lib/apt/apt-helper",), "this needs Debian's apt (package apt)")
APT_GET = Candidates("apt-get", ("/usr/bin/apt-get",), "apt-get install apt")
ORIGIN = "Debian"
COMPONENT = "main"
_COLUMNS = ("FILENAME", "REPO_URI", "CODENAME", "SUITE", "COMPONENT", "ARCHITECTURE", "ORIGIN")
_SETTINGS = "look at apt's configuration: apt-config dump"
_UPDATE = "fetch apt's lists first: apt-get update"
#: A list of all of Debian's packages has 60 MiB, unpacked; xz takes 65 MiB of memory for what `xz -9` packed.
_LIST = Bounds(seconds=300, room=1 << 20, memory=512 << 20, output=256 << 20, processes=16)
_FAILED = re.compile(r"^E: Failed to fetch (?P<uri>\S+)  (?P<why>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """One Packages index that apt is configured for: a file in its lists, the repository's base URI, the release."""

    path: str
    repository: str
    codename: str
    suite: str
    component: str
    architecture: str
    origin: str


def parse_targets(text: str) -> tuple[Target, ...]:
    """What `apt-get indextargets` printed in `_COLUMNS`, tabs between them. Raises ValueError."""
    rows = [line.split("\t") for line in text.splitlines() if line]
    if any(len(row) != len(_COLUMNS) for row in rows):
        raise ValueError("apt-get indextargets printed something else than was asked for")
    return tuple(Target(*row) for row in rows)


def targets(*options: str) -> tuple[Target, ...]:
    """The indexes in apt's lists. Raises MvmnixError when there is no apt."""
    columns = "\t".join(f"$({column})" for column in _COLUMNS)
    argv = [locate(APT_GET), *options, "indextargets", "--format", columns, "Created-By: Packages"]
    done = process.run(argv, env=process.environment(()), hint=_SETTINGS)
    return parse_targets(done.stdout.decode())


def read_index(suite: str, architecture: str) -> Index:
    """Debian's own index of a suite, by code name (trixie-security) or suite name, out of apt's lists.

    apt checked the lists' signatures when it fetched them. Raises MvmnixError when the lists are missing.
    """
    known = targets()
    paths = [
        target.path
        for target in known
        if suite in {target.codename, target.suite} and target.architecture == architecture
        if target.origin == ORIGIN and target.component == COMPONENT
    ]
    if not paths:
        have = ", ".join(sorted({target.codename for target in known if target.origin == ORIGIN})) or "none at all"
        raise MvmnixError(
            f"apt's lists have no index of Debian's suite {suite} ({COMPONENT}, {architecture}); they have: {have}",
            hint=f"{_UPDATE}; if that suite is not among apt's sources, add it there",
        )
    texts = [_unpacked(Path(path)) for path in sorted(set(paths))]
    return Index(suite, texts)


def _unpacked(path: Path) -> bytes:
    """A list of apt's, which may be packed by what its name ends in."""
    inside = f"/list{path.suffix}"
    return Sandbox({inside: path}, bounds=_LIST).run(HELPER, "cat-file", inside).stdout


class Apt:
    """Downloads from `mirror://debian/` through apt: its sources, proxies, credentials and certificates."""

    scheme = DEBIAN_MIRROR
    batch = 6

    def mirrors(self) -> tuple["AptMirror", ...]:
        """All repositories, Debian's own first. Needs apt's sources, but not its lists. Raises MvmnixError."""
        listed = sorted(targets(), key=lambda target: target.origin != ORIGIN)
        found = [target.repository for target in [*listed, *targets("--no-release-info")]]
        bases = [base for source in found for base in apt_settings.bases(source)]
        if not bases:
            why = "apt has no package sources that it reaches by http, https or file"
            raise MvmnixError(why, hint="add Debian's to /etc/apt/sources.list.d, then retry")
        known = apt_settings.read()
        return tuple(AptMirror(base, known) for base in dict.fromkeys(bases))

    def describe(self, source: Source) -> tuple[str, str]:
        """Name and version, from the file name (Debian Policy: name_version_architecture.deb, without the epoch).

        Raises ValueError.
        """
        name, version, *_ = [*_path(source).rpartition("/")[2].removesuffix(".deb").split("_"), "", ""]
        return name, unquote(version)

    def repair(self, sources: Sequence[Source]) -> str:
        """The refreshing of exactly these packages."""
        return "mvm pin update " + " ".join(sorted({self.describe(source)[0] for source in sources}))


@dataclass(frozen=True, slots=True)
class AptMirror:
    """One of apt's repositories, by its base URI."""

    base: str
    known: AptSettings

    def command(self, batch: Sequence[Source]) -> Command:
        """One apt-helper, with a URI, a destination and a hash for each source."""
        given = self._given()
        triples = [
            word
            for source in batch
            for word in (_uri(given, source), f"{FILES}/{self.file(source)}", f"SHA256:{source.digest.hex}")
        ]
        arguments = (*apt_settings.INSIDE, *given.options, "download-file", "--", *triples)
        return Command(HELPER, arguments, given.route, given.environment, given.files, self.known.netrc)

    def file(self, source: Source) -> str:
        """Named by digest: what a URI ends in is no file name to trust."""
        return source.digest.hex

    def failures(self, batch: Sequence[Source], stderr: str) -> Mapping[Source, Failure]:
        """By what apt-helper says of each URI."""
        given = self._given()
        said = {unquote(match["uri"]): match["why"] for match in _FAILED.finditer(stderr)}
        return {source: _failure(said[uri]) for source in batch if (uri := unquote(_uri(given, source))) in said}

    def _given(self) -> ForMirror:
        return apt_settings.for_mirror(self.base, self.known)


def _uri(given: ForMirror, source: Source) -> str:
    """As apt-helper is told it, and says it."""
    return f"{given.base}/{_path(source)}"


def _path(source: Source) -> str:
    """Where a file, or the package that it stands in, lies below a mirror: apt takes it into a URI and its own lines.

    Raises ValueError.
    """
    path = source.uri.removeprefix(DEBIAN_MIRROR).partition("#")[0]
    if not MIRROR_PATH.fullmatch(path):
        raise ValueError(f"not a path in a package archive: {path!r}")
    return path


def _failure(why: str) -> Failure:
    if why.startswith(("404", "File not found", "Failed to stat")):
        return Failure(FailureKind.GONE, why)
    mismatch = why.startswith(("Hash Sum mismatch", "File has unexpected size"))
    return Failure(FailureKind.WRONG if mismatch else FailureKind.FAILED, why)
