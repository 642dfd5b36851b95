"""Reads presets: files of network rules, `presets/NAME.toml`, which are spelled out when a plan is made; pure.

A preset says nothing that --allow, --deny and --env don't say. No plan refers to one: it has rules and variables.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self
from urllib.parse import urlsplit

from mvmnix.errors import ReasonCode
from mvmnix.formats import strict, toml
from mvmnix.formats.escaping import shell_command
from mvmnix.plan import fields
from mvmnix.plan.network import Acknowledgement, Action, NetworkRule, parse_rules

#: A preset's name, and so its file's without `.toml`.
NAME: Final = r"[a-z0-9][a-z0-9-]{0,31}"
PRESET_LIMIT: Final = 2**16
_MOST: Final = 256
_ACKNOWLEDGE: Final = "acknowledge="
_INDEX: Final = "index="
#: Printable ASCII of an http or https URL (RFC 3986, appendix A) without query, fragment, user information or wildcard;
#: with no `@` in its path either, which is where a password with a `/` ends.
_URL: Final = r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~!$&'()+;=:%/-]*)?"
_HINT: Final = "correct it; docs/reference/network.md has the format, and `mvm schema preset` its schema"


@dataclass(frozen=True, slots=True)
class Preset:
    """The rules that a preset stands for, and the variables that tell programs in the guest of them.

    `file_rules` are for hosts that an index named, over the network: no acknowledgement is for them.
    """

    rules: tuple[NetworkRule, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    file_rules: tuple[NetworkRule, ...] = ()


@dataclass(frozen=True, slots=True)
class PresetChoice:
    """A preset by its name, with what is acknowledged for all of its rules that allow. Raises ValueError.

    `index` is the URL of the index that a tool's preset is for; "" for what the tool is configured for.
    """

    name: str
    acknowledged: tuple[Acknowledgement, ...] = ()
    index: str = ""

    def __post_init__(self) -> None:
        if self.index and not _is_index_url(self.index):
            # not repeated: it may hold a credential
            raise ValueError("not the http or https URL of an index without credentials: index=https://HOST/PATH")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a user typed: NAME[,index=URL][,acknowledge=WORD]. Raises ValueError.

        >>> PresetChoice.parse("pip,acknowledge=private-addresses").name
        'pip'
        """
        name, *words = text.split(",")
        if not re.fullmatch(NAME, name):
            raise ValueError(f"not a preset's name: {name[:40]!r}: 1 to 32 of a-z, 0-9 and -")
        indexes = [word.removeprefix(_INDEX) for word in words if word.startswith(_INDEX)]
        if len(indexes) > 1 or not all(indexes):
            raise ValueError("a preset is for one index: index=https://HOST/PATH")
        others = [word for word in words if not word.startswith(_INDEX)]
        said = [word.removeprefix(_ACKNOWLEDGE) for word in others]
        if wrong := [word for word in others if word.removeprefix(_ACKNOWLEDGE) not in set(Acknowledgement)]:
            raise ValueError(f"{wrong[0][:80]!r} is none of acknowledge={'|'.join(Acknowledgement)}")
        return cls(name, tuple(sorted(map(Acknowledgement, dict.fromkeys(said)))), "".join(indexes))

    @property
    def option(self) -> str:
        """The option that chooses it, as a user types it."""
        index = [f"{_INDEX}{self.index}"] if self.index else []
        acknowledged = [f"{_ACKNOWLEDGE}{word}" for word in self.acknowledged]
        return shell_command("--allow-preset", ",".join([self.name, *index, *acknowledged]))

    def applied(self, preset: Preset) -> Preset:
        """The preset with what is acknowledged for its rules, but for none of an index's answer."""
        words = {*self.acknowledged}
        rules = tuple(
            replace(it, acknowledged=tuple(sorted({*it.acknowledged, *words}))) if it.action is Action.ALLOW else it
            for it in preset.rules
        )
        return replace(preset, rules=rules)


def _is_index_url(text: str) -> bool:
    """Return whether a text is a URL that a plan may name as a package index.

    >>> _is_index_url("https://index.example/simple/"), _is_index_url("https://me:word@index.example/simple/")
    (True, False)
    """
    try:
        return re.fullmatch(_URL, text) is not None and bool(urlsplit(text).hostname) and urlsplit(text).port != 0
    except ValueError:
        return False


def parse_preset(data: bytes, name: str, path: str) -> Preset:
    """Read a preset's file; its rules have the ids NAME-1 and so on. Raises RefusedError [config-malformed]."""
    try:
        return toml.read(data, path, lambda it: _read(it, name), schema="preset", limit=PRESET_LIMIT)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.CONFIG_MALFORMED, path, _HINT) from error


def _read(record: strict.Record, name: str) -> Preset:
    record.integer("version", 1, 1)
    if record.has("description"):
        record.text("description", limit=400)
    named = {field: record.texts(field, limit=_MOST, least=1) for field in ("allow", "deny") if record.has(field)}
    if not named:
        record.note("one of `allow` and `deny` has a rule at least, and none stands there without one")
    rules = _parse_lists(record, named, name)
    environment = record.child("environment", fields.environment) if record.has("environment") else {}
    return Preset(rules, environment)


def _parse_lists(record: strict.Record, named: Mapping[str, tuple[str, ...]], prefix: str) -> tuple[NetworkRule, ...]:
    """Return the rules of both lists; each text that is none is noted. Raises ValueError for what they are together."""
    parsers: Mapping[str, Callable[[str], object]] = {
        "allow": lambda text: parse_rules((text,), ()),
        "deny": lambda text: parse_rules((), (text,)),
    }
    wrong = [
        (why, name, index)
        for name, parse in parsers.items()
        for index, text in (_list_read(record.value(name), named[name]) if name in named else ())
        for why in _check_rule(parse, text)
    ]
    for problem in wrong:
        record.note(*problem)
    return () if wrong else parse_rules(named.get("allow", ()), named.get("deny", ()), prefix)


def _list_read(value: object, read: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield the strings of an array that were read, with their indices in it."""
    yield from ((at, text) for at, text in enumerate(value if isinstance(value, list) else ()) if text in read)


def _check_rule(parse: Callable[[str], object], text: str) -> Iterator[str]:
    """Yield why a text is no rule; nothing for one that is."""
    try:
        parse(text)
    except ValueError as error:
        yield str(error)
