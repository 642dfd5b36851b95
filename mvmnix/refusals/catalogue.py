"""Reads the texts about reason codes, a table of TOML for each, in a file for each kind of refusal."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix.errors import ReasonCode

#: The files, in the order of a build and a start, and what their codes are about.
GROUPS: Final[Mapping[str, str]] = {
    "flake": "the flake and its sources",
    "builder": "what came out of the builder",
    "signatures": "who signed",
    "provenance": "the provenance",
    "policy": "the trust policy",
    "plan": "the plan",
    "snapshot": "the snapshot (Preview)",
    "host": "the host's own state",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The text about a reason code, in Markdown; `example` is what a terminal shows, as plain text."""

    code: ReasonCode
    #: What its codes are about, a value of GROUPS.
    group: str
    #: The first version of mvm that has the code.
    since: str
    #: When it is refused, as a clause behind "refused because".
    meaning: str
    why: str
    remedy: str
    example: str


def explanations() -> Mapping[ReasonCode, Explanation]:
    """Return the texts about all codes, in the order of GROUPS and their files."""
    return {found.code: found for group in GROUPS for found in _read(group)}


def _read(group: str) -> tuple[Explanation, ...]:
    with Path(__file__).with_name(f"{group}.toml").open("rb") as file:
        tables = tomllib.load(file)
    return tuple(_explanation(group, name, table) for name, table in tables.items())


def _explanation(group: str, name: str, table: Mapping[str, str]) -> Explanation:
    words = {key: " ".join(text.split()) for key, text in table.items() if key != "example"}
    return Explanation(ReasonCode(name), GROUPS[group], **words, example=table["example"].strip())
