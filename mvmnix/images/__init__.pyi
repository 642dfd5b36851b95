from mvmnix.images import image_archive, make_provenance, sbom
from mvmnix.images.file_names import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME, bundles_of
from mvmnix.images.gc_roots import Need, StoredFile, users_of
from mvmnix.images.part_index import NOTHING_KEPT, KeptParts, PartDomain, PartIndex
from mvmnix.images.prune import SHORTEST, KeptImages, PruneResult
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.source_gc import SourceGcResult, collect_garbage, sources_of
from mvmnix.images.store import (
    STATEMENT_LIMIT,
    BuildKey,
    ImageStore,
    IndexEntry,
    StoredImage,
    StoreDirectory,
    VerifiedImage,
)

__all__ = [
    "BUNDLE_NAME",
    "LOCK_NAME",
    "NOTHING_KEPT",
    "PARTS_NAME",
    "REBUILDS_NAME",
    "SHORTEST",
    "STATEMENT_LIMIT",
    "BuildKey",
    "ImageStore",
    "IndexEntry",
    "KeptImages",
    "KeptParts",
    "Need",
    "PartDomain",
    "PartIndex",
    "PruneResult",
    "RebuildStore",
    "SourceGcResult",
    "StoreDirectory",
    "StoredFile",
    "StoredImage",
    "VerifiedImage",
    "bundles_of",
    "collect_garbage",
    "image_archive",
    "make_provenance",
    "sbom",
    "sources_of",
    "users_of",
]
