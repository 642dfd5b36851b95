"""Keeps finished builds with their evidence, and finds them again."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "gc_roots": "File Need users_of",
        "image_archive": "BUNDLE_NAME LOCK_NAME PARTS_NAME REBUILDS_NAME",
        "part_index": "Domain KeptParts NOTHING_KEPT PartIndex",
        "prune": "Freed KeptImages SHORTEST",
        "rebuilds": "Rebuilds",
        "source_gc": "collect_garbage Collected sources_of",
        "store": "BuildKey Entry Finished ImageStore Kept STATEMENT_LIMIT StoreDirectory",
    },
    modules=["image_archive", "make_provenance", "sbom"],
)
