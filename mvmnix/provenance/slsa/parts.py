"""The nouns of a statement about parts that mvm's own modules built, and the one place that writes and reads it; pure.

A kernel is built once, not for every guest: it is kept, and enters later builds under this statement. It is SLSA
provenance, version 1, of a build type of its own, whose subjects are archives named by their store path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, refuse
from mvmnix.model import STORE_DIR, StorePath
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.slsa.build_types import PREDICATE_TYPE
from mvmnix.provenance.slsa.provenance import Provenance

BUILD_TYPE: Final = "urn:mvmnix:buildtype:flake-parts:1"
#: As the image of that name the policy's builder rules see them.
IMAGE: Final = "parts"
#: What the tree of this installation is called, from which the builder image is made too.
OWN_TREE: Final = "path:mvmnix"

_WHAT: Final = "a parts statement"
_HINT: Final = "let mvm build its parts again: `mvm build --again FLAKE`"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A store path, and the SHA-256 of its Nix archive."""

    path: StorePath
    nar: Digest


@dataclass(frozen=True, slots=True)
class Parts:
    """Store paths that came out of one build of mvm's own tree."""

    parts: tuple[Part, ...]
    provenance: Provenance

    def __post_init__(self) -> None:
        if not self.parts or len({part.path for part in self.parts}) != len(self.parts):
            raise ValueError("a parts statement names at least one path, and none twice")


def to_statement(it: Parts) -> Statement:
    """The statement that these paths came to be in this way."""
    subjects = tuple(Subject(f"{part.path.hash}-{part.path.name}", part.nar) for part in it.parts)
    return Statement(subjects, PREDICATE_TYPE, predicate.value(it.provenance, BUILD_TYPE))


def from_statement(statement: Statement) -> Parts:
    """Read a parts statement. Raises RefusedError as predicate.from_statement does."""
    provenance = predicate.read_provenance(statement, BUILD_TYPE)
    try:
        paths = (Part(StorePath.parse(f"{STORE_DIR}/{each.name}"), each.digest) for each in statement.subjects)
        return Parts(tuple(paths), provenance)
    except ValueError as error:
        raise refuse(ReasonCode.STATEMENT_MALFORMED, _WHAT, str(error), _HINT) from error


def foreign(it: Provenance) -> Iterator[Reason]:
    """Why this is no build of mvm's own tree alone."""
    if it.root.uri != OWN_TREE or it.directory:
        why = f"it is about {it.root.uri} and not about mvm's own tree, {OWN_TREE}"
        yield Reason(ReasonCode.PARTS_MISMATCH, _WHAT, why, _HINT)
    if it.kept:
        yield Reason(ReasonCode.PARTS_MISMATCH, _WHAT, "it was made from other kept parts", _HINT)
