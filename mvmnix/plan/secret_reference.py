"""Where a guest's secret comes from and where it goes to, as a plan says it: references, never values; pure."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self, override

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.words import check_words

#: How many a plan may name.
MOST_SECRETS: Final = 32
#: Bytes that one secret, and all secrets of a guest together, may have.
LARGEST_SECRET: Final = 16 << 10
LARGEST_SECRETS: Final = 32 << 10

#: Words of a command.
_MOST_WORDS: Final = 64
_FILE_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_WORD: Final = r"[^\x00-\x1f\x7f]{1,4096}"


class SecretSource(StrEnum):
    """What is asked for a secret: a variable of the caller, a file, the keyring, a command."""

    VARIABLE = "env"
    FILE = "file"
    KEYRING = "keyring"
    COMMAND = "command"


class SecretTarget(StrEnum):
    """What the guest gets it as: a file in memory, /run/secrets/NAME, or a variable of its workload."""

    FILE = "file"
    VARIABLE = "environment"


#: The words of a reference: how many, and of what form the first is.
_FORMS: Final[Mapping[SecretSource, tuple[range, str]]] = {
    SecretSource.VARIABLE: (range(1, 2), _VARIABLE),
    SecretSource.FILE: (range(1, 2), r"/.+"),
    SecretSource.KEYRING: (range(2, 3), _WORD),
    SecretSource.COMMAND: (range(1, _MOST_WORDS + 1), r"/.+"),
}


@dataclass(frozen=True, slots=True)
class SecretReference:
    """One secret of a plan: the name it has in the guest, as what, and where it lies. Raises ValueError.

    `words` are the variable's name; the file's absolute path; service and name in the keyring; the command's words, the
    first an absolute path.
    """

    name: str
    target: SecretTarget
    source: SecretSource
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", check_words(self.words))
        if not re.fullmatch(_VARIABLE if self.target is SecretTarget.VARIABLE else _FILE_NAME, self.name):
            raise ValueError(f"not the name of a secret in the guest: {self.name[:80]!r}")
        count, first = _FORMS[self.source]
        fits = len(self.words) in count and all(re.fullmatch(_WORD, word) for word in self.words)
        if not (fits and re.fullmatch(first, self.words[0])):
            raise ValueError(f"{self.name}: not a reference of the kind {self.source}: {_MEANT[self.source]}")

    @classmethod
    def parse(cls, text: str, target: SecretTarget) -> Self:
        """What a user typed: NAME=env:VARIABLE, NAME=file:/PATH, NAME=keyring:SERVICE/NAME or NAME='command:WORDS'.

        Raises ValueError, which doesn't repeat what stands right of the equals sign: it could be the secret.

        >>> SecretReference.parse("DB=command:/usr/bin/pass show 'my db'", SecretTarget.FILE).words
        ('/usr/bin/pass', 'show', 'my db')
        """
        name, equals, reference = text.partition("=")
        kind, _, rest = reference.partition(":")
        if kind not in set(SecretSource):
            what = name if re.fullmatch(_FILE_NAME, name) and equals else "NAME"
            raise ValueError(f"not a reference to a secret: {what}=env:{what}, or file:, keyring:, command:")
        source = SecretSource(kind)
        match source:
            case SecretSource.KEYRING:
                words: tuple[str, ...] = tuple(rest.rpartition("/")[::2])
            case SecretSource.COMMAND:
                words = tuple(shlex.split(rest))
            case _:
                words = (rest,)
        return cls(name, target, source, words)

    @property
    def place(self) -> str:
        """What the guest finds: a path, or a variable of its workload."""
        return f"/run/secrets/{self.name}" if self.target is SecretTarget.FILE else f"the variable {self.name}"

    @override
    def __str__(self) -> str:
        """As it is typed."""
        words = shlex.join(self.words) if self.source is SecretSource.COMMAND else "/".join(self.words)
        return f"{self.source}:{words}"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret with its value, for as long as it is on its way; its text form lacks the value."""

    name: str
    target: SecretTarget
    value: bytes = field(repr=False)


_MEANT: Final[Mapping[SecretSource, str]] = {
    SecretSource.VARIABLE: "env:VARIABLE",
    SecretSource.FILE: "file:/ABSOLUTE/PATH",
    SecretSource.KEYRING: "keyring:SERVICE/NAME",
    SecretSource.COMMAND: "command:/ABSOLUTE/PATH WORD…",
}


def to_json(references: Sequence[SecretReference]) -> list[Mapping[str, object]]:
    """As they stand in a plan's predicate."""
    return [{"name": it.name, "as": it.target, "from": it.source, "reference": list(it.words)} for it in references]


def from_record(record: strict.Record) -> tuple[SecretReference, ...]:
    """The field `secrets` of a plan's predicate; empty where it is missing, and never written when empty."""
    if not record.has("secrets"):
        return ()
    found = record.each("secrets", _read, MOST_SECRETS)
    if not found:
        raise ValueError("no secrets, where some were announced")
    return found


def check(references: Sequence[SecretReference], environment: Mapping[str, str]) -> None:
    """Raises ValueError where two have a name in common, or one that of a variable of the plan; or for too many."""
    names = Counter((it.target, it.name) for it in references)
    if twice := sorted(name for (_, name), count in names.items() if count > 1):
        raise ValueError(f"secrets are listed twice: {', '.join(twice)}")
    if taken := sorted(it.name for it in references if it.target is SecretTarget.VARIABLE and it.name in environment):
        raise ValueError(f"secrets have the names of variables that the plan sets: {', '.join(taken)}")
    if len(references) > MOST_SECRETS:
        raise ValueError(f"more than {MOST_SECRETS} secrets")


def kinds_digest(references: Sequence[SecretReference]) -> Digest:
    """What the audit log says of them: the digest of their names, as what they go in, and their kinds."""
    listed = [{"name": it.name, "as": it.target, "from": it.source} for it in references]
    return Digest.of(strict.canonical(listed))


def _read(record: strict.Record) -> SecretReference:
    return SecretReference(
        name=record.text("name", _FILE_NAME),  # which a variable's is, too
        target=record.choice("as", SecretTarget),
        source=record.choice("from", SecretSource),
        words=record.texts("reference", _WORD, _MOST_WORDS),
    )
