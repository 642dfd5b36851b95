"""Debian's order of versions and its relations between packages (Debian Policy 5.6.12 and 7.1); no I/O."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import override

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
_RELATION = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?::[a-z0-9-]+)?\s*(?:\(\s*(?P<sign><<|<=|=|>=|>>)\s*(?P<version>[^\s()]+)\s*\))?"
)
_Key = tuple[tuple[tuple[int, ...], int], ...]
_Order = tuple[int, _Key, _Key]
_HOLDS: Mapping[str, Callable[[_Order, _Order], bool]] = {
    "<<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">>": operator.gt,
}


def version_key(version: str) -> _Order:
    """What to compare versions by, so that they come in dpkg's order.

    >>> sorted(["1:0.9", "1.0", "1.0-1", "1.0~rc1", "1.0+b1"], key=version_key)
    ['1.0~rc1', '1.0', '1.0-1', '1.0+b1', '1:0.9']
    """
    epoch, colon, rest = version.rpartition(":") if version.count(":") == 1 else ("", "", version)
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch) if colon else 0, _key(upstream if dash else rest), _key(revision if dash else "0")


def _key(text: str) -> _Key:
    return tuple((_weights(letters), int(digits or 0)) for letters, digits in _PARTS.findall(text))


def _weights(text: str) -> tuple[int, ...]:
    """`~` sorts before the end, which is 0, then come letters, then the rest."""
    return (*(-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 256 for char in text), 0)


@dataclass(frozen=True, slots=True)
class Relation:
    """A package by name, with a bound on its version if `sign` isn't empty. Architecture qualifiers are dropped."""

    name: str
    sign: str = ""
    version: str = ""

    def admits(self, version: str) -> bool:
        """Whether a package of that name and version satisfies it; an unversioned provider has version ''."""
        if not self.sign:
            return True
        return bool(version) and _HOLDS[self.sign](version_key(version), version_key(self.version))

    @override
    def __str__(self) -> str:
        return f"{self.name} ({self.sign} {self.version})" if self.sign else self.name


def parse_relations(text: str) -> tuple[tuple[Relation, ...], ...]:
    """A Depends field: all of these groups, of each group one alternative. Raises ValueError.

    >>> [[str(one) for one in group] for group in parse_relations("ab (>= 1), bc:any | cd")]
    [['ab (>= 1)'], ['bc', 'cd']]
    """
    groups = [group.split("|") for group in text.split(",") if group.strip()]
    return tuple(tuple(_relation(alternative.strip()) for alternative in group) for group in groups)


def _relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a relation between packages: {text!r}")
    return Relation(match["name"], match["sign"] or "", match["version"] or "")
