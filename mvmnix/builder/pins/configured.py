"""Says from where a tool of this machine is configured to download: apt, pip or npm.

What apt and pip are configured for, their adapters read. npm's registries are read here, out of its files and variables
(npmrc(5)): a variable beats the user's file, and that one the machine's. Of a file only the registries are read. Where
none of them names one, npm itself is asked for its own, in a sandbox that has none of these files. There pip and npm
are asked, too, where an index serves files from.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mvmnix.builder.fetch import proxies
from mvmnix.builder.fetch.downloads import BOUNDS, downloaded
from mvmnix.builder.fetch.registries import PROXY_PORT, Command
from mvmnix.builder.fetch.routes import Endpoint, Route, ToConfigured, ToProxy
from mvmnix.builder.pins import pip_settings, pypi
from mvmnix.builder.pins.debian import Apt
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import WORK
from mvmnix.sandbox.trusted_executables import Candidates

#: Of Debian's npm; another one's lies below its own prefix, and NPM_CONFIG_GLOBALCONFIG names it.
_MACHINE: Final = "/etc/npmrc"
_USER: Final = ".npmrc"
#: Larger ones are none that people write, in bytes.
_LIMIT: Final = 2**20
_LINE: Final = re.compile(r"\s*(?P<name>(@[^:=\s]+:)?registry)\s*=\s*(?P<value>.*?)\s*")
_NPM: Final = Candidates(
    "npm", ("/usr/bin/npm", "/usr/local/bin/npm"), "install it, or name the registry: --allow https://REGISTRY"
)
_REGISTRY: Final = "NPM_CONFIG_REGISTRY"
#: Prints where npm itself is to be had from; its output is found on standard error.
_ASK: Final = ("view", "npm", "dist.tarball")
#: Seconds in which a registry has to answer.
_SECONDS: Final = 30
_IMPATIENT: Final = {
    "NPM_CONFIG_CACHE": f"{WORK}/npm",
    "NPM_CONFIG_FETCH_RETRIES": "0",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
}
_CERTIFICATES: Final = "/npm/certificates"
_HERE: Final = Endpoint("127.0.0.1", PROXY_PORT)
_HINT: Final = "npm config set registry https://REGISTRY, or name its host with --allow https://REGISTRY"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """URLs from which a client downloads, which may hold credentials; not all of them are of http or https.

    `indexes` are those of pip's indexes and npm's registry, which may serve files from other hosts. `environment` has
    variables that tell the same to this client in a guest, without credentials, and nothing of URLs with a query or
    fragment; none for apt, which takes its sources from files.
    """

    urls: tuple[str, ...] = field(repr=False)
    indexes: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)


def client_settings(tool: str, index: str = "") -> ClientSettings:
    """What a tool is configured for here, or its settings for the index with this URL, where one is given.

    Raises MvmnixError where the tool is missing or its configuration is not supported, such as a URL that may have a
    part of a password for its host; KeyError for another tool, and for an index of one that takes none by a variable.
    """
    return _OF_INDEX[tool](index) if index else _TOOLS[tool]()


def npm_registries(environment: Mapping[str, str], usual: Callable[[], str] | None = None) -> dict[str, str]:
    """The URLs of the registry and of those of scopes, by their names in an npmrc; they may hold credentials.

    `usual` gives npm's own where none is named. Raises MvmnixError where there is no npm to ask for it.
    """
    variables = {name.lower(): value for name, value in environment.items() if value}
    home = variables.get("home", "/nonexistent")
    found: dict[str, str] = {}
    for place in (
        variables.get("npm_config_globalconfig", _MACHINE),
        variables.get("npm_config_userconfig", f"{home}/{_USER}"),
    ):
        found |= dict(parse_npmrc(_text(Path(place))))
    if named := variables.get("npm_config_registry"):
        found["registry"] = named
    if "registry" not in found:
        found["registry"] = (usual or _usual)()
    return found


def file_urls(tool: str, index: str) -> tuple[str, ...]:
    """URLs from which an index of pip's or npm's serves the tool itself, a project that nearly every index has.

    Raises MvmnixError where the index can't be reached within half a minute, or has no such project.
    """
    return pypi.file_urls(index) if tool == "pip" else _npm_file_urls(index)


def _npm_file_urls(registry: str) -> tuple[str, ...]:
    place = Endpoint.of(registry)
    chosen = proxies.from_environment(urlsplit(registry).scheme, place, os.environ)
    proxy = proxies.common([chosen], "npm")
    route: Route = ToProxy(proxy.endpoint) if proxy else ToConfigured(frozenset({place}))
    way = proxy.at(_HERE) if proxy else f"socks5h://{_HERE.host}:{_HERE.port}"
    variables = {_REGISTRY: registry, "NPM_CONFIG_PROXY": way, "NPM_CONFIG_HTTPS_PROXY": way, **_IMPATIENT}
    files = {_CERTIFICATES: Path(bundle)} if (bundle := os.environ.get("NODE_EXTRA_CA_CERTS")) else {}
    variables |= {"NODE_EXTRA_CA_CERTS": _CERTIFICATES} if files else {}
    bounds = replace(BOUNDS, seconds=_SECONDS)
    with downloaded(Command(_NPM, _ASK, route, variables, files), (), bounds) as done:
        found = tuple(line for line in done.said.splitlines() if line.startswith(("http://", "https://")))
        if done.status or len(found) != 1:  # more than one line would be more than one URL of one answer
            failure = done.failure()
            why = "; ".join(dict.fromkeys((failure.cause.strip(), *done.refusals)))
            raise MvmnixError(f"npm found no file: {why}", hint=_HINT) from failure
    return found


def parse_npmrc(text: str) -> Iterator[tuple[str, str]]:
    """The registries that an npmrc names, by `registry` or `@SCOPE:registry`. Raises MvmnixError for a variable.

    >>> list(parse_npmrc("registry = 'https://npm.example/'"))
    [('registry', 'https://npm.example/')]
    """
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is None:
            continue
        value = match["value"].strip("\"'")
        if "${" in value:
            raise MvmnixError(f"npm's configuration takes {match['name']} from a variable", hint=_HINT)
        yield match["name"], value


def _usual() -> str:
    """The registry that npm has without a configuration. Raises MvmnixError."""
    return Sandbox().run(_NPM, "config", "get", "registry").stdout.decode(errors="replace").strip()


def _text(path: Path) -> str:
    if not path.is_file() or not os.access(path, os.R_OK):
        return ""
    with path.open("rb") as file:
        return file.read(_LIMIT).decode(errors="replace")


def _apt() -> ClientSettings:
    urls = tuple(mirror.base for mirror in Apt().mirrors())
    _refuse_ambiguous("apt", urls)
    return ClientSettings(urls)


def _npm() -> ClientSettings:
    found = npm_registries(os.environ)
    urls, registry = tuple(dict.fromkeys(found.values())), found["registry"]
    _refuse_ambiguous("npm", urls)
    has_variable = pip_settings.has_path_alone(registry)
    variables = {_REGISTRY: pip_settings.without_credentials(registry)} if has_variable else {}
    return ClientSettings(urls, (registry,), variables)


def _refuse_ambiguous(tool: str, urls: Iterable[str]) -> None:
    for url in urls:
        pip_settings.refuse_ambiguous(tool, url)


def _pip() -> ClientSettings:
    found = pip_settings.read()
    return ClientSettings(found.urls, found.indexes, pip_settings.guest_variables(found))


#: What each is asked by.
_TOOLS: Final[Mapping[str, Callable[[], ClientSettings]]] = {"apt": _apt, "npm": _npm, "pip": _pip}
#: The tools that can be asked.
CONFIGURED_TOOLS: Final = tuple(_TOOLS)
#: What each has for an index that is given (npm documentation, "config"; pip documentation, "Configuration").
_OF_INDEX: Final[Mapping[str, Callable[[str], ClientSettings]]] = {
    "npm": lambda index: ClientSettings((index,), (index,), {_REGISTRY: index}),
    "pip": lambda index: ClientSettings((index,), (index,), pip_settings.index_variables(index)),
}
#: The tools that can be given one: apt takes its sources from files alone.
INDEXED_TOOLS: Final = tuple(_OF_INDEX)
