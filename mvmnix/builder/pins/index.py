"""A suite's Packages index (deb822), read without I/O: packages by name, and who provides a virtual one."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import override

from mvmnix.digest import Digest

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


_PACKAGE = re.compile(rb"^Package:[ \t]*(\S+)", re.MULTILINE)
_PROVIDES = re.compile(rb"^Provides:[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)
#: Debian Policy 2.5, the most important first.
_PRIORITIES = ("required", "important", "standard", "optional", "extra")
_FIELD = re.compile(r"^([!-9;-~]+):[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Stanza:
    """One package as its suite has it today.

    `depends` joins Pre-Depends and Depends, `size` is in bytes, `priority` counts from 0, which is required.
    """

    name: str
    version: str
    architecture: str
    filename: str
    size: int
    digest: Digest
    depends: tuple[tuple[Relation, ...], ...]
    provides: tuple[Relation, ...]
    essential: bool
    priority: int
    suite: str

    @property
    def pool(self) -> str:
        """The pool directory, which all packages made from one source share."""
        return self.filename.rpartition("/")[0]

    def satisfies(self, relation: Relation) -> bool:
        """By its own name, or by one it provides."""
        own = (Relation(self.name, "=", self.version),)
        return any(offer.name == relation.name and relation.admits(offer.version) for offer in own + self.provides)


class Index:
    """The packages of one suite; stanzas are parsed when asked for, as an index has tens of thousands."""

    def __init__(self, suite: str, texts: Iterable[bytes]) -> None:
        """`texts` are the bytes of Packages files; a stanza without a name is passed over."""
        self.suite = suite
        self._raw: dict[str, list[bytes]] = {}
        for text in texts:
            for stanza in text.split(b"\n\n"):
                match = _PACKAGE.search(stanza)
                if match:
                    self._raw.setdefault(match[1].decode(errors="replace"), []).append(stanza)
        self._parsed: dict[str, Stanza | None] = {}

    def package(self, name: str) -> Stanza | None:
        """The package of that name, the highest version of several; None if there is none. Raises ValueError."""
        if name not in self._parsed:
            found = [_stanza(raw, self.suite) for raw in self._raw.get(name, ())]
            self._parsed[name] = max(found, key=lambda stanza: version_key(stanza.version), default=None)
        return self._parsed[name]

    def providers(self, name: str) -> tuple[Stanza, ...]:
        """The packages that provide that virtual name: by priority, as apt does, then by their own names."""
        stanzas = [stanza for provider in self._providers.get(name, ()) if (stanza := self.package(provider))]
        offering = [stanza for stanza in stanzas if any(offer.name == name for offer in stanza.provides)]
        return tuple(sorted(offering, key=lambda stanza: (stanza.priority, stanza.name)))

    @cached_property
    def _providers(self) -> Mapping[str, set[str]]:
        providers: dict[str, set[str]] = {}
        for package, raws in self._raw.items():
            for match in filter(None, map(_PROVIDES.search, raws)):
                for offer in _provides(match[1].decode(errors="replace")):
                    providers.setdefault(offer.name, set()).add(package)
        return providers


def _provides(text: str) -> tuple[Relation, ...]:
    return tuple(offer for group in parse_relations(text) for offer in group)


def _stanza(raw: bytes, suite: str) -> Stanza:
    fields = dict(_FIELD.findall(raw.decode()))
    try:
        return Stanza(
            name=fields["Package"],
            version=fields["Version"],
            architecture=fields["Architecture"],
            filename=fields["Filename"],
            size=int(fields["Size"]),
            digest=Digest(fields["SHA256"]),
            depends=parse_relations(f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"),
            provides=_provides(fields.get("Provides", "")),
            essential=fields.get("Essential") == "yes",
            priority=_PRIORITIES.index(fields.get("Priority", "extra")),
            suite=suite,
        )
    except KeyError as error:
        raise ValueError(f"a stanza of suite {suite} lacks the field {error}") from error
