"""Reads what pip is configured to do on this machine, and says what a sandboxed pip is given of it.

Pip itself reads its files and variables (pip documentation, "Configuration"), outside of the sandbox: they are its
owner's. The sandboxed pip gets values in its environment, so that no credential stands on a command line, and the files
and directories that they name. What has no bearing on downloads by name, version and hash is left out.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote, urlsplit

from mvmnix.builder.fetch import proxies
from mvmnix.builder.fetch.proxies import Proxy
from mvmnix.builder.fetch.registries import PROXY_PORT
from mvmnix.builder.fetch.routes import Endpoint, Route, ToConfigured, ToProxy
from mvmnix.errors import MvmnixError
from mvmnix.system import process

#: Prints the index that this pip has without a configuration, and then its configuration.
_ASK: Final = """
import runpy, sys
try:
    from pip._internal.models.index import PyPI
    print(PyPI.simple_url)
except ImportError:
    print()
sys.stdout.flush()
sys.argv = ["pip", "config", "list"]
runpy.run_module("pip", run_name="__main__")
"""
_SECTIONS: Final = ("global", "install", "download", ":env:")
_LINE: Final = re.compile(r"(?P<section>[^.]*)\.(?P<name>[a-z-]+)=(?P<value>'.*'|\".*\")")
#: Settings whose values are taken as they are.
_PLAIN: Final = ("no-index", "trusted-host", "timeout", "default-timeout", "retries", "resume-retries")
_URLS: Final = ("index-url", "extra-index-url", "find-links")
_FILES: Final = ("cert", "client-cert", "constraint")
#: Where requests and OpenSSL look for certificates when pip has no setting.
_CERTIFICATES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
#: The environment of a pip that reads no configuration, keeps no cache and asks nothing.
_FIXED: Final = {
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INPUT": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_WEB: Final = ("http://", "https://")
_HERE: Final = Endpoint("127.0.0.1", PROXY_PORT)


@dataclass(frozen=True, slots=True)
class PipSettings:
    """What a sandboxed pip is given: `files` by their path inside; `environment` may hold credentials.

    `urls` are its indexes and lists of links, which may hold credentials too; `indexes` of these the indexes, the main
    one first.
    """

    route: Route
    environment: Mapping[str, str] = field(repr=False)
    files: Mapping[str, Path]
    urls: tuple[str, ...] = field(repr=False)
    indexes: tuple[str, ...] = field(repr=False)


def read(index: str = "") -> PipSettings:
    """Of this machine and environment; an `index` takes the place of all others and of links. Raises MvmnixError."""
    variables = map(_variable, ("config-file", *_PLAIN, *_URLS, *_FILES, "proxy"))
    # or pip would start the interpreter that a pip.conf below HOME names (pip: main_parser.py, `python`)
    itself = {"_PIP_RUNNING_IN_SUBPROCESS": "1"}
    asked = process.environment(("HOME", *variables), itself)
    said = process.run((sys.executable, "-I", "-c", _ASK), env=asked).stdout.decode(errors="replace")
    usual, _, listed = said.partition("\n")
    configured = parse(listed)
    if index:
        others = {name: value for name, value in configured.items() if name not in {*_URLS, "no-index"}}
        trusted = [configured.get("trusted-host", ""), *_trusted_hosts(index)]
        configured = others | {"index-url": index, "trusted-host": " ".join(trusted)}
    return settings(configured, usual, os.environ)


def index_variables(index: str) -> dict[str, str]:
    """Variables by which a pip has this index and no other; of one without TLS pip has to be told that it may be."""
    trusted = {_variable("trusted-host"): host for host in _trusted_hosts(index)}
    return {_variable("index-url"): index, **trusted}


def _trusted_hosts(index: str) -> Iterator[str]:
    if index.startswith("http:"):
        yield urlsplit(without_credentials(index)).netloc


def guest_variables(found: PipSettings) -> dict[str, str]:
    """Variables by which a pip elsewhere has the same indexes and lists of links, without credentials.

    Files and directories of this machine are left out, and so are its certificates, proxy and timeouts, and URLs with a
    query or fragment.
    """
    given = {"PIP_INDEX_URL": " ".join(found.indexes[:1]), **found.environment}
    kept = {name: given[name] for name in map(_variable, ("no-index", "trusted-host")) if name in given}
    for name in map(_variable, _URLS):
        if urls := [url for url in given.get(name, "").split() if url.startswith(_WEB) and has_path_alone(url)]:
            kept[name] = " ".join(map(without_credentials, urls))
    return kept


def parse(listed: str) -> dict[str, str]:
    """What `pip config list` printed, as far as it counts for `pip download`: values by option, the last one counts."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None and match["section"] in found:
            found[match["section"]][match["name"]] = str(ast.literal_eval(match["value"]))
    return {name: value for section in _SECTIONS for name, value in found[section].items()}


def settings(configured: Mapping[str, str], usual: str, environment: Mapping[str, str]) -> PipSettings:
    """What of a configuration goes into the sandbox; `usual` is the index where it names none. Raises MvmnixError."""
    given = {name: value for name, value in configured.items() if name in _PLAIN}
    files: dict[str, Path] = {}
    has_indexes = configured.get("no-index", "") not in {"1", "true", "yes", "on"}
    urls = [usual] if has_indexes and "index-url" not in configured else []
    for name in _URLS:
        values = [_place(each, files, urls) for each in configured.get(name, "").split()]
        given |= {name: " ".join(values)} if values else {}
    for name, value in _named(configured, environment):
        values = [_file(name, each, files) for each in (value.split() if name == "constraint" else [value])]
        given[name] = " ".join(values)
    known = tuple(url for url in urls if url)
    proxy, endpoints = _ways(configured.get("proxy", ""), known, environment)
    given["proxy"] = proxy.at(_HERE) if proxy else f"socks5h://{_HERE.host}:{_HERE.port}"
    variables = {_variable(name): value for name, value in given.items()}
    route: Route = ToProxy(proxy.endpoint) if proxy else ToConfigured(endpoints)
    named = (configured.get("index-url", usual), *configured.get("extra-index-url", "").split())
    indexes = tuple(url for url in named if has_indexes and url.startswith(_WEB))
    return PipSettings(route, MappingProxyType({**variables, **_FIXED}), MappingProxyType(files), known, indexes)


def without_credentials(url: str) -> str:
    """Return a URL without its user information (RFC 3986, section 3.2.1).

    >>> without_credentials("https://me:word@index.example:8443/simple")
    'https://index.example:8443/simple'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def has_path_alone(url: str) -> bool:
    """Return whether a URL has neither query nor fragment, which are where tokens are put.

    >>> has_path_alone("https://index.example/simple"), has_path_alone("https://index.example/simple?token=word")
    (True, False)
    """
    return re.search(r"[?#]", url) is None


def refuse_ambiguous(tool: str, url: str) -> None:
    """Refuse a web URL whose host may be part of credentials: a `/` in a password ends the authority (RFC 3986, 3.2).

    Raises MvmnixError, whose message has nothing of the URL.
    """
    if not url.lower().startswith(_WEB):
        return
    try:
        parts = urlsplit(url)
        is_clear = "@" not in f"{parts.path}{parts.query}{parts.fragment}" and parts.port != 0
    except ValueError:
        is_clear = False
    if not is_clear:
        why = f"{tool} is configured for a URL whose host can't be told from credentials"
        raise MvmnixError(why, hint="write / ? # and @ as %2F %3F %23 and %40 in a password, and @ as %40 in a path")


def _variable(name: str) -> str:
    """The variable for an option (pip documentation, "Environment Variables")."""
    return f"PIP_{name.upper().replace('-', '_')}"


def _named(configured: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The settings that name files; certificates also by the variables that pip's libraries read."""
    bundle = configured.get("cert") or next((environment[name] for name in _CERTIFICATES if environment.get(name)), "")
    values = {**configured, "cert": bundle}
    yield from ((name, values[name]) for name in _FILES if values.get(name))


def _place(value: str, files: dict[str, Path], urls: list[str]) -> str:
    """A URL, or a directory or file of this machine, as it is called inside."""
    if value.startswith(_WEB):
        refuse_ambiguous("pip", value)
        urls.append(value)
        return value
    if "://" in value and not value.startswith("file://"):
        why = "pip's configuration names an address that is not an http, https or file URL"
        raise MvmnixError(why, hint="pip config debug")
    path = unquote(urlsplit(value).path) if value.startswith("file://") else value
    return _file("links", path, files)


def _file(kind: str, value: str, files: dict[str, Path]) -> str:
    path = Path(value).expanduser()
    if not path.is_absolute():
        why = f"pip's configuration names a relative path ({kind}), and pip does not work in your directory"
        raise MvmnixError(why, hint="name it from / on")
    if not path.exists():
        raise MvmnixError(f"pip's configuration names {path}, which is not there", hint="pip config debug")
    inside = f"/pip/{kind}-{len(files)}{'.txt' if kind == 'constraint' else ''}"
    files[inside] = path
    return inside


def _ways(option: str, urls: Sequence[str], environment: Mapping[str, str]) -> tuple[Proxy | None, frozenset[Endpoint]]:
    """The proxy, if there is one, and the places that are configured. Raises MvmnixError."""
    try:
        places = {url: Endpoint.of(url) for url in urls}
    except ValueError as error:
        why = "pip's configuration names an index that is not an http or https URL"
        raise MvmnixError(why, hint="pip config debug") from error
    schemes = [(urlsplit(url).scheme, place) for url, place in places.items()]
    chosen = [option or proxies.from_environment(scheme, place, environment) for scheme, place in schemes]
    return proxies.common(chosen, "pip"), frozenset(places.values())
