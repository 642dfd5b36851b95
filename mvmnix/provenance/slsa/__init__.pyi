from mvmnix.provenance.slsa import foreign_builds, in_toto, parts, predicate, provenance, source_summaries
from mvmnix.provenance.slsa.build_types import BUILD_TYPE, PREDICATE_TYPE
from mvmnix.provenance.slsa.foreign_builds import BuildSource
from mvmnix.provenance.slsa.in_toto import ALGORITHMS, COMMIT, ForeignStatement, predicate_type
from mvmnix.provenance.slsa.parts import Part, Parts
from mvmnix.provenance.slsa.predicate import SBOM_NAME, provenance_statement, read_provenance
from mvmnix.provenance.slsa.provenance import (
    HOST_NIX,
    MICROVM,
    BuilderLimits,
    Cached,
    KeptPath,
    LockedInput,
    Provenance,
    RootTree,
    UntouchedNode,
    Variation,
    Versions,
    lock_account,
    subjects_of,
)

__all__ = [
    "ALGORITHMS",
    "BUILD_TYPE",
    "COMMIT",
    "HOST_NIX",
    "MICROVM",
    "PREDICATE_TYPE",
    "SBOM_NAME",
    "BuildSource",
    "BuilderLimits",
    "Cached",
    "ForeignStatement",
    "KeptPath",
    "LockedInput",
    "Part",
    "Parts",
    "Provenance",
    "RootTree",
    "UntouchedNode",
    "Variation",
    "Versions",
    "foreign_builds",
    "in_toto",
    "lock_account",
    "parts",
    "predicate",
    "predicate_type",
    "provenance",
    "provenance_statement",
    "read_provenance",
    "source_summaries",
    "subjects_of",
]
