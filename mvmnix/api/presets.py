"""Finds the rules and variables of a preset: in the user's files, the machine's, or in what a tool is configured for.

A name that stands for more than one of these is refused: a user's file takes the place of none of the machine's, and
neither does any file of a tool's.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from mvmnix.builder.pins.configured import CONFIGURED_TOOLS, INDEXED_TOOLS, client_settings, file_urls
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.network.policy.presets import PRESET_LIMIT, Preset, PresetChoice, parse_preset
from mvmnix.plan.network import NetworkRule, parse_rules
from mvmnix.plan.network_hosts import host_name, is_address
from mvmnix.suggestion import did_you_mean
from mvmnix.system.private_dirs import Directory

#: In the user's directory of configuration, and in the machine's.
DIRECTORY: Final = "presets"
_SUFFIX: Final = ".toml"
_PORTS: Final = {"http": 80, "https": 443}


class Presets:
    """The presets of one operation, each read once. `machine` is the path of the machine's directory of configuration.

    `notice` is called with what the user should know of a tool's preset. Raises RefusedError [state-permissions] for
    files that others could change.
    """

    def __init__(self, machine: str, user: Directory, notice: Callable[[str], None]) -> None:
        self._machine = machine
        self._user = user
        self._notice = notice
        self._read: dict[tuple[str, str], Preset] = {}

    def find(self, choice: PresetChoice) -> Preset:
        """Return what a preset stands for; its rules have the ids NAME-1 and so on.

        Raises UsageError for a name that stands for nothing, or for two things, and for an index of what has none;
        RefusedError [config-malformed]; MvmnixError where a tool has no configuration that could be used.
        """
        key = (choice.name, choice.index)
        if key not in self._read:
            self._read[key] = self._found(*key)
        return choice.applied(self._read[key])

    def _found(self, name: str, index: str) -> Preset:
        files = dict(self._files(name))
        sources = [*([f"what {name} is configured for"] if name in CONFIGURED_TOOLS else []), *files]
        if not sources:
            near = did_you_mean(name, CONFIGURED_TOOLS)
            hint = (
                f"{near}{', '.join(CONFIGURED_TOOLS)} are known, and files {DIRECTORY}/NAME{_SUFFIX}; docs/network.md"
            )
            raise UsageError(f"there is no preset {name}", hint=hint)
        if len(sources) > 1:
            hint = "give your own another name: none takes the place of another"
            raise UsageError(f"the preset {name} stands for more than one thing: {', '.join(sources)}", hint=hint)
        if index and name not in INDEXED_TOOLS:
            hint = f"of {' and '.join(INDEXED_TOOLS)} alone; a file {DIRECTORY}/NAME{_SUFFIX} has rules"
            raise UsageError(f"the preset {name} takes no index", hint=hint)
        for path, data in files.items():
            return parse_preset(data, name, path)
        return self._of_tool(name, index)

    def _of_tool(self, name: str, index: str) -> Preset:
        settings = client_settings(name, index)
        if any(urlsplit(url).username is not None for url in settings.urls):
            self._notice(f"no plan holds the credentials that {name} has for its index; docs/network.md#presets")
        rules = rules_of_urls(name, settings.urls)
        indexes = [url for url in settings.indexes if urlsplit(url).scheme in _PORTS]
        files = tuple(url for each in indexes for url in self._file_urls(name, each))
        if more := rules_of_urls(name, (*settings.urls, *files))[len(rules) :]:
            hosts = ", ".join(rule.typed for rule in more)
            self._notice(f"the preset {name} allows where its index serves files from, too: {hosts}")
        return Preset((*rules, *more), settings.environment)

    def _file_urls(self, name: str, index: str) -> tuple[str, ...]:
        """URLs from which an index serves a file; none, which the user is told, where that can't be found out."""
        try:
            return file_urls(name, index)
        except MvmnixError as error:
            why = f"the preset {name} allows its index alone: where that serves files from is unknown"
            self._notice(f"{why} ({error}); allow another host with --allow https://HOST")
            return ()

    def _files(self, name: str) -> Iterator[tuple[str, bytes]]:
        """Paths and contents of the files of that name."""
        with suppress(FileNotFoundError), Directory.open(self._machine) as directory:
            yield from _file(directory, name)
        yield from _file(self._user, name)


def _file(directory: Directory, name: str) -> Iterator[tuple[str, bytes]]:
    with suppress(FileNotFoundError), directory.existing(DIRECTORY) as presets:
        yield presets.where(name + _SUFFIX), presets.read(name + _SUFFIX, PRESET_LIMIT)


def rules_of_urls(tool: str, urls: tuple[str, ...]) -> tuple[NetworkRule, ...]:
    """Rules for the hosts of a tool's sources; without credentials and paths, which stay in its configuration.

    Raises MvmnixError where none is reached over the network, or one by an address that no rule can name.

    >>> [it.typed for it in rules_of_urls("pip", ("https://user:word@index.example/simple", "file:///srv/wheels"))]
    ['https://index.example']
    """
    typed = dict.fromkeys(_typed(url, tool) for url in urls if urlsplit(url).scheme in _PORTS)
    if not typed:
        why = f"{tool} is configured here for nothing that is reached by http or https"
        raise MvmnixError(why, hint="name the hosts: --allow https://HOST")
    return parse_rules(tuple(typed), (), tool)


def _typed(url: str, tool: str) -> str:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        text = f"tcp:{host}:{port}" if is_address(host) else f"{parts.scheme}://{host_name(host)}:{port}"
        (rule,) = parse_rules([text], [])
    except ValueError as error:
        why = f"{tool} downloads from a host that no rule can name: {error}"
        raise MvmnixError(why, hint="a guest reaches names, and IPv4 addresses; docs/network.md") from error
    return rule.typed
