"""Finds the rules and variables of a preset: in the user's files, the machine's, or in what a tool is configured for.

A name that stands for more than one of these is refused: a user's file takes the place of none of the machine's, and
neither does any file of a tool's.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from mvmnix.builder.pins.configured import (
    CONFIGURED_TOOLS,
    INDEXED_TOOLS,
    ClientSettings,
    client_settings,
    file_urls,
)
from mvmnix.builder.pins.pip_settings import has_path_alone
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.network.policy.presets import PRESET_LIMIT, Preset, PresetChoice, parse_preset
from mvmnix.plan.network import NetworkRule, Protocol, parse_rules
from mvmnix.plan.network_hosts import host_name, is_address, is_private_name
from mvmnix.suggestion import did_you_mean
from mvmnix.system.private_dirs import Directory

#: In the user's directory of configuration, and in the machine's.
DIRECTORY: Final = "presets"
_SUFFIX: Final = ".toml"
_PORTS: Final = {"http": 80, "https": 443}
#: Hosts that an index may add to a preset by naming them: those that are known have one or two.
_MOST_FILE_HOSTS: Final = 8
_HINT: Final = "a secret one is given with --secret-env; docs/reference/network.md#presets"
#: Rules that a notice spells out.
_MOST_SHOWN: Final = 16


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
                f"{near}{', '.join(CONFIGURED_TOOLS)} are known, and files {DIRECTORY}/NAME{_SUFFIX}; "
                "docs/reference/network.md"
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
            self._notice(
                f"no plan holds the credentials that {name} has for its index; docs/reference/network.md#presets"
            )
        if not index:
            self._tell_of_urls(name, settings)
        rules = rules_of_urls(name, settings.urls)
        return Preset(rules, settings.environment, self._file_rules(name, settings, rules))

    def _tell_of_urls(self, name: str, settings: ClientSettings) -> None:
        """Say which hosts' URLs a tool's configuration brings into the plan, and which it doesn't."""
        for variable, value in settings.environment.items():
            if hosts := _hosts(value.split()):
                self._notice(f"the preset {name} sets {variable} for {hosts}, with its path as configured; {_HINT}")
        if hosts := _hosts(url for url in settings.urls if not has_path_alone(url)):
            why = "a query or fragment may be a credential"
            self._notice(f"the preset {name} sets no variable for {hosts}: {why}; {_HINT}")

    def _file_rules(self, name: str, settings: ClientSettings, own: tuple[NetworkRule, ...]) -> tuple[NetworkRule, ...]:
        """Rules for where indexes serve files from, by their answers; a notice has those and what is left out."""
        known = {rule.typed for rule in own}
        named, others = dict[str, None](), dict[str, None]()
        for index in (url for url in settings.indexes if urlsplit(url).scheme in _PORTS):
            for rule in _named_rules(name, self._file_urls(name, index)):
                if rule.typed not in {*known, *named}:
                    is_taken = _is_file_host(rule, index) and len(named) < _MOST_FILE_HOSTS
                    (named if is_taken else others)[rule.typed] = None
        others = {typed: None for typed in others if typed not in named}
        if named:
            self._notice(f"the preset {name} allows where its index serves files from, too: {', '.join(named)}")
        if others:
            shown = " ".join(shell_command("--allow", typed) for typed in (*others,)[:_MOST_SHOWN])
            more = f" and {len(others) - _MOST_SHOWN} more" if len(others) > _MOST_SHOWN else ""
            self._notice(
                f"the index of {name} names other hosts, which no preset allows; if one is right: {shown}{more}"
            )
        return parse_rules((*(rule.typed for rule in own), *named), (), name)[len(own) :]

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


def _hosts(urls: Iterable[str]) -> str:
    """Hosts of the http and https URLs among these, to be shown."""
    parts = [urlsplit(url) for url in urls if url.lower().startswith(("http://", "https://"))]
    return ", ".join(dict.fromkeys(it.hostname or "" for it in parts))


def _named_rules(tool: str, answer: Iterable[str]) -> Iterator[NetworkRule]:
    """Rules for the hosts that an index names; what no rule can name, and no web client reaches, is passed over."""
    for url in answer:
        with suppress(MvmnixError, ValueError):
            yield from rules_of_urls(tool, (url,))


def _is_file_host(rule: NetworkRule, index: str) -> bool:
    """Return whether an index may add such a rule by its answer alone: for a public name, at its protocol's port.

    `index` is the URL of the index: where that has no TLS, neither need its files have it.
    """
    schemes = {Protocol.HTTPS, Protocol(urlsplit(index).scheme)}
    has_usual_port = rule.protocol is not None and rule.port == rule.protocol.usual_port
    return rule.protocol in schemes and has_usual_port and not is_private_name(rule.host)


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
        raise MvmnixError(why, hint="a guest reaches names, and IPv4 addresses; docs/reference/network.md") from error
    return rule.typed
