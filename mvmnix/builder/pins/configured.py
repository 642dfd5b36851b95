"""Says from where a tool of this machine is configured to download: apt, pip or npm.

What apt and pip are configured for, their adapters read. npm's registries are read here, out of its files and variables
(npmrc(5)): a variable beats the user's file, and that one the machine's. Of a file only the registries are read. Where
none of them names one, npm itself is asked for its own, in a sandbox that has none of these files.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from mvmnix.builder.pins import pip_settings
from mvmnix.builder.pins.debian import Apt
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.helper import Sandbox
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
_HINT: Final = "npm config set registry https://REGISTRY, or name its host with --allow https://REGISTRY"


def configured_urls(tool: str) -> tuple[str, ...]:
    """The URLs of a tool's sources, which may hold credentials; not all of them are of http or https.

    Raises MvmnixError where the tool is missing or its configuration is not supported; KeyError for another tool.
    """
    return _TOOLS[tool]()


def npm_registries(environment: Mapping[str, str], usual: Callable[[], str] | None = None) -> tuple[str, ...]:
    """The URLs of the registry and of those of scopes; they may hold credentials.

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
    return tuple(dict.fromkeys(found.values()))


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


def _apt() -> tuple[str, ...]:
    return tuple(mirror.base for mirror in Apt().mirrors())


#: What each is asked by.
_TOOLS: Final[Mapping[str, Callable[[], tuple[str, ...]]]] = {
    "apt": _apt,
    "npm": lambda: npm_registries(os.environ),
    "pip": lambda: pip_settings.read().urls,
}
#: The tools that can be asked.
CONFIGURED_TOOLS: Final = tuple(_TOOLS)
