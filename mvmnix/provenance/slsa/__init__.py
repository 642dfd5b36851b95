"""What builders say of builds: SLSA provenance and parts, as nouns, read strictly."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "build_types": "BUILD_TYPE PREDICATE_TYPE",
        "foreign_builds": "BuildSource",
        "in_toto": "ALGORITHMS COMMIT ForeignStatement predicate_type",
        "parts": "Part Parts",
        "predicate": "provenance_statement read_provenance SBOM_NAME",
        "provenance": (
            "BuilderLimits Cached HOST_NIX KeptPath lock_account LockedInput MICROVM Provenance "
            "RootTree subjects_of UntouchedNode Variation Versions"
        ),
    },
    modules=["foreign_builds", "in_toto", "parts", "predicate", "provenance", "source_summaries"],
)
