"""Reads a project's claims.toml: which files are read, which features aren't finished, what is exempt; pure."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from mvmnix.claims.rules import Rule
from mvmnix.errors import ReasonCode
from mvmnix.formats import strict, toml

#: Bytes of a claims.toml, and entries in each of its arrays: far more than a project's documents have.
LIMIT: Final = 2**16
_MOST: Final = 256
#: A pattern of paths; its stars take time with their number as an exponent.
_PATTERN: Final = r"(?!(?:[^*]*\*){7})[^\0]{1,200}"
_OF_PATHS: Final = frozenset({"include", "exclude", "paths"})


class Status(StrEnum):
    """How far an unfinished feature is."""

    PLANNED = "planned"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True)
class Feature:
    """An unfinished feature, and the words that name it."""

    status: Status
    words: tuple[str, ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Any of its words, whole, in either case; a space stands for a hyphen too; not in a path."""
        return _pattern_of(self.words)


@lru_cache(maxsize=_MOST)
def _pattern_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return a feature's pattern, by which each passage is searched."""
    words = "|".join(re.escape(word).replace(r"\ ", r"[\s-]+") for word in names)
    return re.compile(rf"(?<![\w/.-])(?:{words})(?![\w/-]|\.\w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Exemption:
    """Rules that aren't applied to files of these patterns, and why."""

    paths: tuple[str, ...]
    rules: tuple[Rule, ...]
    why: str


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """A project's claims.toml; these are the values where it has none.

    Patterns are those of `pathlib.PurePath.full_match`, from the project's directory.
    """

    include: tuple[str, ...] = (
        *("*.md", "docs/**/*.md", "examples/**", "**/*.py"),
        *("**/Dockerfile*", "**/Containerfile*", "**/*compose*.y*ml"),
    )
    exclude: tuple[str, ...] = ("**/test_*.py", "tests/**", "test/**", "**/node_modules/**", "build/**", "dist/**")
    features: tuple[Feature, ...] = ()
    #: Hypervisors and accelerators that a claim about snapshots may name.
    backends: tuple[str, ...] = ("QEMU", "KVM", "TCG", "Firecracker", "Cloud Hypervisor", "Hyper-V", "Xen", "crosvm")
    exempt: tuple[Exemption, ...] = ()


def read_settings(data: bytes, path: str) -> ClaimSettings:
    """Read a claims.toml. Raises RefusedError CONFIG_MALFORMED with all problems and their lines."""
    try:
        return toml.read(data, path, _settings, schema="claims", limit=LIMIT)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.CONFIG_MALFORMED, path, "`mvm schema claims` prints its schema") from error


def _settings(record: strict.Record) -> ClaimSettings:
    record.integer("version", 1, 1)
    usual = ClaimSettings()
    return ClaimSettings(
        include=_texts(record, "include", usual.include),
        exclude=_texts(record, "exclude", usual.exclude),
        features=record.each("features", _feature, _MOST) if record.has("features") else (),
        backends=_texts(record, "backends", usual.backends),
        exempt=record.each("exempt", _exemption, _MOST) if record.has("exempt") else (),
    )


def _texts(record: strict.Record, name: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    return _needed_texts(record, name) if record.has(name) else usual


def _needed_texts(record: strict.Record, name: str, *, least: int = 0) -> tuple[str, ...]:
    return record.texts(name, _PATTERN if name in _OF_PATHS else r"[^\0]{1,200}", _MOST, least=least)


def _feature(record: strict.Record) -> Feature:
    return Feature(record.choice("status", Status), _needed_texts(record, "words", least=1))


def _exemption(record: strict.Record) -> Exemption:
    names = record.texts("rules", "|".join(Rule), _MOST, f"of {', '.join(Rule)}", least=1)
    return Exemption(
        paths=_needed_texts(record, "paths", least=1),
        rules=tuple(map(Rule, names)),
        why=record.text("why", r"[^\0]{3,400}"),
    )
