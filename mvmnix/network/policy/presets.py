"""Reads presets: files of network rules, `presets/NAME.toml`, which are spelled out when a plan is made; pure.

A preset says nothing that --allow and --deny don't say. No plan refers to one: it has the rules themselves.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

from mvmnix.errors import ReasonCode
from mvmnix.formats import strict, toml
from mvmnix.plan.network import Acknowledgement, Action, NetworkRule, parse_rules

#: A preset's name, and so its file's without `.toml`.
NAME: Final = r"[a-z0-9][a-z0-9-]{0,31}"
PRESET_LIMIT: Final = 2**16
_MOST: Final = 256
_ACKNOWLEDGE: Final = "acknowledge="
_HINT: Final = "correct it; docs/network.md has the format, and `mvm schema preset` its schema"


@dataclass(frozen=True, slots=True)
class PresetChoice:
    """A preset by its name, with what is acknowledged for all of its rules that allow. Raises ValueError."""

    name: str
    acknowledged: tuple[Acknowledgement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a user typed: NAME[,acknowledge=WORD]. Raises ValueError.

        >>> PresetChoice.parse("pip,acknowledge=private-addresses").name
        'pip'
        """
        name, *words = text.split(",")
        if not re.fullmatch(NAME, name):
            raise ValueError(f"not a preset's name: {name[:40]!r}: 1 to 32 of a-z, 0-9 and -")
        said = [word.removeprefix(_ACKNOWLEDGE) for word in words]
        if wrong := [word for word in words if word.removeprefix(_ACKNOWLEDGE) not in set(Acknowledgement)]:
            raise ValueError(f"{wrong[0][:80]!r} is none of acknowledge={'|'.join(Acknowledgement)}")
        return cls(name, tuple(sorted(map(Acknowledgement, dict.fromkeys(said)))))

    @property
    def option(self) -> str:
        """The option that chooses it, as a user types it."""
        return "--allow-preset " + ",".join([self.name, *(f"{_ACKNOWLEDGE}{word}" for word in self.acknowledged)])

    def applied(self, rules: Iterable[NetworkRule]) -> tuple[NetworkRule, ...]:
        """The preset's rules with what is acknowledged for them."""
        words = {*self.acknowledged}
        return tuple(
            replace(it, acknowledged=tuple(sorted({*it.acknowledged, *words}))) if it.action is Action.ALLOW else it
            for it in rules
        )


def parse_preset(data: bytes, name: str, path: str) -> tuple[NetworkRule, ...]:
    """The rules of a preset's file, with the ids NAME-1 and so on. Raises RefusedError [config-malformed]."""
    try:
        return toml.read(data, path, lambda it: _read(it, name), schema="preset", limit=PRESET_LIMIT)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.CONFIG_MALFORMED, path, _HINT) from error


def _read(record: strict.Record, name: str) -> tuple[NetworkRule, ...]:
    record.integer("version", 1, 1)
    if record.has("description"):
        record.text("description", limit=400)
    named = {field: record.texts(field, limit=_MOST) for field in ("allow", "deny") if record.has(field)}
    if not named or not all(named.values()):
        raise ValueError("one of `allow` and `deny` has a rule at least, and none stands there without one")
    return parse_rules(named.get("allow", ()), named.get("deny", ()), name)
