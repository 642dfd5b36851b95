"""Reads which registries npm is configured for on this machine, out of its files and variables; starts no npm.

npmrc(5): a variable beats the user's file, and that one the machine's. Of a file only the registries are read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mvmnix.errors import MvmnixError

#: Of Debian's npm; another one's lies below its own prefix, and NPM_CONFIG_GLOBALCONFIG names it.
_MACHINE: Final = "/etc/npmrc"
_USER: Final = ".npmrc"
#: Larger ones are none that people write, in bytes.
_LIMIT: Final = 2**20
_LINE: Final = re.compile(r"\s*(?P<name>(@[^:=\s]+:)?registry)\s*=\s*(?P<value>.*?)\s*")
_HINT: Final = "npm config set registry https://REGISTRY, or name its host with --allow https://REGISTRY"


def read(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The URLs of the registry and of those of scopes; they may hold credentials. Raises MvmnixError without any."""
    variables = {name.lower(): value for name, value in environment.items() if value}
    home = variables.get("home", "/nonexistent")
    places = (
        variables.get("npm_config_globalconfig", _MACHINE),
        variables.get("npm_config_userconfig", f"{home}/{_USER}"),
    )
    found: dict[str, str] = {}
    for place in places:
        found |= dict(parse(_text(Path(place))))
    if named := variables.get("npm_config_registry"):
        found["registry"] = named
    if not found:
        raise MvmnixError(f"npm names no registry in {' or '.join(places)}", hint=_HINT)
    return tuple(dict.fromkeys(found.values()))


def parse(text: str) -> Iterator[tuple[str, str]]:
    """The registries that an npmrc names, by `registry` or `@SCOPE:registry`. Raises MvmnixError for a variable.

    >>> list(parse("registry = 'https://npm.example/'"))
    [('registry', 'https://npm.example/')]
    """
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is None:
            continue
        value = match["value"].strip("\"'")
        if "${" in value:
            raise MvmnixError(f"npm's configuration takes {match['name']} from a variable", hint=_HINT)
        yield match["name"], value


def _text(path: Path) -> str:
    if not path.is_file() or not os.access(path, os.R_OK):
        return ""
    with path.open("rb") as file:
        return file.read(_LIMIT).decode(errors="replace")
