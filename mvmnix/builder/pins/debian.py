"""The apt adapter: it alone knows apt's settings, command lines and what they print; builder/fetch runs the downloads.

Apt itself reads its files (apt.conf(5)), outside of the sandbox: they are root's. The sandboxed apt-helper reads none.
It gets options that hold no secret, credentials as a file of its own, and a proxy with its password in the environment.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote, urlsplit

from mvmnix.builder.fetch import proxies
from mvmnix.builder.fetch.registries import FILES, INPUT, PROXY_PORT, Command, Failure, FailureKind
from mvmnix.builder.fetch.routes import Endpoint, Route, ToConfigured, ToProxy
from mvmnix.builder.pins.index import Index
from mvmnix.builder.pins.locks import DEBIAN_MIRROR, MIRROR_PATH
from mvmnix.errors import MvmnixError
from mvmnix.model import Source
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import WORK, Bounds
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.system import process
from mvmnix.system.child_causes import Cause

HELPER = Candidates("apt-helper", ("/usr/lib/apt/apt-helper",), "this needs Debian's apt (package apt)")
APT_GET = Candidates("apt-get", ("/usr/bin/apt-get",), "apt-get install apt")
_APT_CONFIG: Final = "/usr/bin/apt-config"
_LINE: Final = re.compile(r'(?P<name>[^ "]+) "(?P<value>.*)";')
#: Settings of how apt downloads whose values are taken as they are, for all hosts or for one (apt-transport-http(1)).
_HOST: Final = r"(::[A-Za-z0-9.-]+)?"
_PLAIN: Final = re.compile(
    rf"Acquire::(Retries|(http|https){_HOST}::(Timeout|Pipeline-Depth|User-Agent|No-Cache|Dl-Limit|AllowRedirect|"
    r"Verify-Peer|Verify-Host|SslForceVersion))",
    re.IGNORECASE,
)
#: And those that name files (apt-transport-https(1)).
_FILES: Final = re.compile(rf"Acquire::https{_HOST}::(CaInfo|SslCert|SslKey|CrlFile)", re.IGNORECASE)
_NETRC: Final = ("/etc/apt/auth.conf", "/etc/apt/auth.conf.d")
#: Where a directory of packages is inside.
_PACKAGES: Final = "/apt/packages"
#: Schemes of mirrors.
_WEB: Final = ("http", "https")
_DIRECTORIES: Final = ("file", "copy")
_HERE: Final = Endpoint("127.0.0.1", PROXY_PORT)
#: What an apt-helper in the sandbox has instead of the machine's files.
INSIDE: Final = (
    *("-o", "Dir::Etc=/none", "-o", f"Dir::Etc::netrc={INPUT}", "-o", "Dir::Etc::netrcparts=/none"),
    *("-o", f"Dir::State={WORK}", "-o", f"Dir::Cache={WORK}", "-o", "APT::Sandbox::User="),
)

ORIGIN = "Debian"
COMPONENT = "main"
_COLUMNS = ("FILENAME", "REPO_URI", "CODENAME", "SUITE", "COMPONENT", "ARCHITECTURE", "ORIGIN")
_SETTINGS = "look at apt's configuration: apt-config dump"
_UPDATE = "fetch apt's lists first: apt-get update"
#: A list of all of Debian's packages has 60 MiB, unpacked; xz takes 65 MiB of memory for what `xz -9` packed.
_LIST = Bounds(seconds=300, room=1 << 20, memory=512 << 20, output=256 << 20, processes=16)
_FAILED = re.compile(r"^E: Failed to fetch (?P<uri>\S+)  (?P<why>.*)$", re.MULTILINE)


class Apt:
    """Downloads from `mirror://debian/` through apt: its sources, proxies, credentials and certificates."""

    scheme = DEBIAN_MIRROR
    batch = 6

    def mirrors(self) -> tuple["AptMirror", ...]:
        """All repositories, Debian's own first. Needs apt's sources, but not its lists. Raises MvmnixError."""
        listed = sorted(apt_targets(), key=lambda target: target.origin != ORIGIN)
        found = [target.repository for target in [*listed, *apt_targets("--no-release-info")]]
        bases = [base for source in found for base in base_uris(source)]
        if not bases:
            why = "apt has no package sources that it reaches by http, https or file"
            raise MvmnixError(why, hint="add Debian's to /etc/apt/sources.list.d, then retry")
        known = read_apt_settings()
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
class AptSettings:
    """By lower-case name, what apt is configured to do; `netrc` has credentials (apt_auth.conf(5))."""

    configured: Mapping[str, str]
    environment: Mapping[str, str] = field(repr=False)
    netrc: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ForMirror:
    """What the apt-helper of one mirror is given: `files` by their path inside; `environment` may hold a password.

    `base` is the mirror's base URI as it is inside.
    """

    base: str
    route: Route
    options: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    files: Mapping[str, Path]


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
        arguments = (*INSIDE, *given.options, "download-file", "--", *triples)
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
        return for_mirror(self.base, self.known)


def read_apt_settings() -> AptSettings:
    """Of this machine and environment. Raises MvmnixError."""
    said = process.run(
        (_APT_CONFIG, "dump"),
        env=process.environment(()),
        hint="look at apt's configuration in /etc/apt",
        hints={Cause.MISSING: "this needs Debian's apt (package apt)"},
    ).stdout
    return AptSettings(
        parse_apt_config(said.decode(errors="replace")), MappingProxyType(dict(os.environ)), _credentials()
    )


def parse_apt_config(dump: str) -> dict[str, str]:
    """What `apt-config dump` printed: names and their values, where they have one."""
    matches = (_LINE.fullmatch(line) for line in dump.splitlines())
    return {match["name"]: match["value"] for match in matches if match is not None and match["value"]}


def base_uris(uri: str) -> list[str]:
    """The base URIs that one of apt's sources stands for: itself, or a list of mirrors in a file of this machine.

    None where apt reaches it by a method that is not supported here (apt-transport-mirror(1) over the network, cdrom).
    """
    method = urlsplit(uri).scheme
    if method != "mirror+file":
        return [uri] if method in {*_WEB, *_DIRECTORIES} else []
    path = Path(unquote(urlsplit(uri).path).rstrip("/"))
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return [line.split()[0] for line in lines if line.startswith(tuple(f"{scheme}://" for scheme in _WEB))]


def for_mirror(base: str, known: AptSettings) -> ForMirror:
    """For the mirror with this base URI. Raises MvmnixError."""
    files: dict[str, Path] = {}
    options = {name: value for name, value in known.configured.items() if _PLAIN.fullmatch(name)}
    for name, value in known.configured.items():
        if _FILES.fullmatch(name):
            options[name] = f"/apt/{len(files)}"
            files[options[name]] = Path(value)
    scheme = urlsplit(base).scheme
    if scheme in _DIRECTORIES:
        files[_PACKAGES] = Path(unquote(urlsplit(base).path))
        # apt's method for `file:` makes a link to the file, and no link comes out of the sandbox
        base = f"copy:{_PACKAGES}"
    endpoints = frozenset({Endpoint.of(base)} if scheme in _WEB else ())
    proxy = proxies.common([_proxy(scheme, place, known) for place in endpoints], "apt")
    url = proxy.at(_HERE) if proxy else f"socks5h://{_HERE.host}:{_HERE.port}"
    bundle = known.environment.get("SSL_CERT_FILE", "")
    if bundle:
        files["/apt/certificates"] = Path(bundle)
    return ForMirror(
        base.rstrip("/"),
        ToProxy(proxy.endpoint) if proxy else ToConfigured(endpoints),
        tuple(word for name, value in sorted(options.items()) for word in ("-o", f"{name}={value}")),
        {"http_proxy": url, "https_proxy": url} | ({"SSL_CERT_FILE": "/apt/certificates"} if bundle else {}),
        files,
    )


@dataclass(frozen=True, slots=True)
class IndexTarget:
    """One Packages index that apt is configured for: a file in its lists, the repository's base URI, the release."""

    path: str
    repository: str
    codename: str
    suite: str
    component: str
    architecture: str
    origin: str


def apt_targets(*options: str) -> tuple[IndexTarget, ...]:
    """The indexes in apt's lists. Raises MvmnixError when there is no apt."""
    columns = "\t".join(f"$({column})" for column in _COLUMNS)
    argv = [locate(APT_GET), *options, "indextargets", "--format", columns, "Created-By: Packages"]
    done = process.run(argv, env=process.environment(()), hint=_SETTINGS)
    return parse_targets(done.stdout.decode())


def parse_targets(text: str) -> tuple[IndexTarget, ...]:
    """What `apt-get indextargets` printed in `_COLUMNS`, tabs between them. Raises ValueError."""
    rows = [line.split("\t") for line in text.splitlines() if line]
    if any(len(row) != len(_COLUMNS) for row in rows):
        raise ValueError("apt-get indextargets printed something else than was asked for")
    return tuple(IndexTarget(*row) for row in rows)


def read_index(suite: str, architecture: str) -> Index:
    """Debian's own index of a suite, by code name (trixie-security) or suite name, out of apt's lists.

    apt checked the lists' signatures when it fetched them. Raises MvmnixError when the lists are missing.
    """
    known = apt_targets()
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


def _proxy(scheme: str, place: Endpoint, known: AptSettings) -> str:
    """The proxy for a host: its own setting, the scheme's, http's for https too, or the environment's."""
    found = {name.lower(): value for name, value in known.configured.items()}
    schemes = (scheme, "http") if scheme == "https" else (scheme,)
    detecting = ("proxy-auto-detect", "proxyautodetect")
    if any(found.get(f"acquire::{one}::{name}") for one in schemes for name in detecting):
        why = "apt is configured to ask a program for its proxy, which is not supported"
        raise MvmnixError(why, hint="let Acquire::http::Proxy name the proxy")
    for one in schemes:
        for name in (f"acquire::{one}::proxy::{place.host}", f"acquire::{one}::proxy"):
            if name in found:
                return "" if found[name].upper() == "DIRECT" else found[name]
    return proxies.from_environment(scheme, place, known.environment)


def _credentials() -> bytes:
    """Apt's credentials, as far as we may read them; others fail at their server."""
    files = [Path(_NETRC[0]), *sorted(Path(_NETRC[1]).glob("*.conf"))]
    return b"\n".join(file.read_bytes() for file in files if file.is_file() and os.access(file, os.R_OK))


def _unpacked(path: Path) -> bytes:
    """A list of apt's, which may be packed by what its name ends in."""
    inside = f"/list{path.suffix}"
    return Sandbox({inside: path}, bounds=_LIST).run(HELPER, "cat-file", inside).stdout
