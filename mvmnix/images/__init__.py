"""Keeps finished builds with their evidence, and finds them again."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "gc_roots": "Need StoredFile users_of",
        "part_index": "KeptParts NOTHING_KEPT PartDomain PartIndex",
        "prune": "KeptImages PruneResult SHORTEST",
        "rebuilds": "RebuildStore",
        "source_gc": "collect_garbage SourceGcResult sources_of",
        "store": (
            "BuildKey BUNDLE_NAME ImageStore IndexEntry LOCK_NAME PARTS_NAME REBUILDS_NAME STATEMENT_LIMIT "
            "StoredImage StoreDirectory VerifiedBuild"
        ),
    },
    modules=["image_archive", "make_provenance", "sbom"],
)
