"""Keeps finished builds with their evidence, and finds them again."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "file_names": "BUNDLE_NAME bundles_of LOCK_NAME PARTS_NAME REBUILDS_NAME",
        "gc_roots": "Need StoredFile users_of",
        "part_index": "KeptParts NOTHING_KEPT PartDomain PartIndex",
        "prune": "KeptImages PruneResult SHORTEST",
        "rebuilds": "RebuildStore",
        "source_gc": "collect_garbage SourceGcResult sources_of",
        "store": "BuildKey ImageStore IndexEntry STATEMENT_LIMIT StoredImage StoreDirectory VerifiedImage",
    },
    modules=["image_archive", "make_provenance", "sbom"],
)
