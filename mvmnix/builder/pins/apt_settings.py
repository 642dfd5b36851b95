"""Reads what apt is configured to do on this machine, and says what a sandboxed apt-helper is given of it.

Apt itself reads its files (apt.conf(5)), outside of the sandbox: they are root's. The sandboxed apt-helper reads none.
It gets options that hold no secret, credentials as a file of its own, and a proxy with its password in the environment.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote, urlsplit

from mvmnix import process
from mvmnix.builder.fetch import proxies
from mvmnix.builder.fetch.registries import INPUT, PROXY_PORT
from mvmnix.builder.fetch.routes import Endpoint, Route, ToConfigured, ToProxy
from mvmnix.child_causes import Cause
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.helper_command import WORK

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


def read() -> AptSettings:
    """Of this machine and environment. Raises MvmnixError."""
    said = process.run(
        (_APT_CONFIG, "dump"),
        env=process.environment(()),
        hint="look at apt's configuration in /etc/apt",
        hints={Cause.MISSING: "this needs Debian's apt (package apt)"},
    ).stdout
    return AptSettings(parse(said.decode(errors="replace")), MappingProxyType(dict(os.environ)), _credentials())


def parse(dump: str) -> dict[str, str]:
    """What `apt-config dump` printed: names and their values, where they have one."""
    matches = (_LINE.fullmatch(line) for line in dump.splitlines())
    return {match["name"]: match["value"] for match in matches if match is not None and match["value"]}


def bases(uri: str) -> list[str]:
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


#: What an apt-helper in the sandbox has instead of the machine's files.
INSIDE: Final = (
    *("-o", "Dir::Etc=/none", "-o", f"Dir::Etc::netrc={INPUT}", "-o", "Dir::Etc::netrcparts=/none"),
    *("-o", f"Dir::State={WORK}", "-o", f"Dir::Cache={WORK}", "-o", "APT::Sandbox::User="),
)


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
