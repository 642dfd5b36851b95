"""Where a guest's secret comes from and where it goes to, as a plan says it: references, never values; pure."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self, override

from mvmnix import strict
from mvmnix.model import Digest

#: How many a plan may name.
MOST: Final = 32
#: Bytes that one secret, and all secrets of a guest together, may have.
LARGEST: Final = 16 << 10
LARGEST_SUM: Final = 32 << 10

#: Words of a command.
_MOST_WORDS: Final = 64
_FILE_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_WORD: Final = r"[^\x00-\x1f\x7f]{1,4096}"


class Source(StrEnum):
    """What is asked for a secret: a variable of the caller, a file, the keyring, a command."""

    VARIABLE = "env"
    FILE = "file"
    KEYRING = "keyring"
    COMMAND = "command"


class Target(StrEnum):
    """What the guest gets it as: a file in memory, /run/secrets/NAME, or a variable of its workload."""

    FILE = "file"
    VARIABLE = "environment"


#: The words of a reference: how many, and of what form the first is.
_FORMS: Final[Mapping[Source, tuple[range, str]]] = {
    Source.VARIABLE: (range(1, 2), _VARIABLE),
    Source.FILE: (range(1, 2), r"/.+"),
    Source.KEYRING: (range(2, 3), _WORD),
    Source.COMMAND: (range(1, _MOST_WORDS + 1), r"/.+"),
}


@dataclass(frozen=True, slots=True)
class Reference:
    """One secret of a plan: the name it has in the guest, as what, and where it lies. Raises ValueError.

    `words` are the variable's name; the file's absolute path; service and name in the keyring; the command's words, the
    first an absolute path.
    """

    name: str
    target: Target
    source: Source
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(_VARIABLE if self.target is Target.VARIABLE else _FILE_NAME, self.name):
            raise ValueError(f"not the name of a secret in the guest: {self.name[:80]!r}")
        count, first = _FORMS[self.source]
        fits = len(self.words) in count and all(re.fullmatch(_WORD, word) for word in self.words)
        if not (fits and re.fullmatch(first, self.words[0])):
            raise ValueError(f"{self.name}: not a reference of the kind {self.source}: {_MEANT[self.source]}")

    @classmethod
    def parse(cls, text: str, target: Target) -> Self:
        """What a user typed: NAME=env:VARIABLE, NAME=file:/PATH, NAME=keyring:SERVICE/NAME or NAME='command:WORDS'.

        Raises ValueError, which doesn't repeat what stands right of the equals sign: it could be the secret.

        >>> Reference.parse("DB=command:/usr/bin/pass show 'my db'", Target.FILE).words
        ('/usr/bin/pass', 'show', 'my db')
        """
        name, equals, reference = text.partition("=")
        kind, _, rest = reference.partition(":")
        if kind not in set(Source):
            what = name if re.fullmatch(_FILE_NAME, name) and equals else "NAME"
            raise ValueError(f"not a reference to a secret: {what}=env:{what}, or file:, keyring:, command:")
        source = Source(kind)
        match source:
            case Source.KEYRING:
                words: tuple[str, ...] = tuple(rest.rpartition("/")[::2])
            case Source.COMMAND:
                words = tuple(shlex.split(rest))
            case _:
                words = (rest,)
        return cls(name, target, source, words)

    @property
    def place(self) -> str:
        """What the guest finds: a path, or a variable of its workload."""
        return f"/run/secrets/{self.name}" if self.target is Target.FILE else f"the variable {self.name}"

    @override
    def __str__(self) -> str:
        """As it is typed."""
        words = shlex.join(self.words) if self.source is Source.COMMAND else "/".join(self.words)
        return f"{self.source}:{words}"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret with its value, for as long as it is on its way; its text form lacks the value."""

    name: str
    target: Target
    value: bytes = field(repr=False)


_MEANT: Final[Mapping[Source, str]] = {
    Source.VARIABLE: "env:VARIABLE",
    Source.FILE: "file:/ABSOLUTE/PATH",
    Source.KEYRING: "keyring:SERVICE/NAME",
    Source.COMMAND: "command:/ABSOLUTE/PATH WORD…",
}


def to_json(references: Sequence[Reference]) -> list[Mapping[str, object]]:
    """As they stand in a plan's predicate."""
    return [{"name": it.name, "as": it.target, "from": it.source, "reference": list(it.words)} for it in references]


def from_record(record: strict.Record) -> tuple[Reference, ...]:
    """The field `secrets` of a plan's predicate; empty where it is missing, and never written when empty."""
    if not record.has("secrets"):
        return ()
    found = record.each("secrets", _read, MOST)
    if not found:
        raise ValueError("no secrets, where some were announced")
    return found


def check(references: Sequence[Reference], environment: Mapping[str, str]) -> None:
    """Raises ValueError where two have a name in common, or one that of a variable of the plan; or for too many."""
    names = Counter((it.target, it.name) for it in references)
    if twice := sorted(name for (_, name), count in names.items() if count > 1):
        raise ValueError(f"secrets stand there twice: {', '.join(twice)}")
    if taken := sorted(it.name for it in references if it.target is Target.VARIABLE and it.name in environment):
        raise ValueError(f"secrets have the names of variables that the plan sets: {', '.join(taken)}")
    if len(references) > MOST:
        raise ValueError(f"more than {MOST} secrets")


def kinds(references: Sequence[Reference]) -> Digest:
    """What the audit log says of them: the digest of their names, as what they go in, and their kinds."""
    listed = [{"name": it.name, "as": it.target, "from": it.source} for it in references]
    return Digest.of(strict.canonical(listed))


def _read(record: strict.Record) -> Reference:
    return Reference(
        name=record.text("name", _FILE_NAME),  # which a variable's is, too
        target=record.choice("as", Target),
        source=record.choice("from", Source),
        words=record.texts("reference", _WORD, _MOST_WORDS),
    )
