from mvmnix.images import image_archive, make_provenance, sbom
from mvmnix.images.gc_roots import File, Need, users_of
from mvmnix.images.image_archive import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME
from mvmnix.images.part_index import NOTHING_KEPT, Domain, KeptParts, PartIndex
from mvmnix.images.prune import SHORTEST, Freed, KeptImages
from mvmnix.images.rebuilds import Rebuilds
from mvmnix.images.source_gc import Collected, collect_garbage, sources_of
from mvmnix.images.store import STATEMENT_LIMIT, BuildKey, Entry, Finished, ImageStore, Kept, StoreDirectory

__all__ = [
    "BUNDLE_NAME",
    "LOCK_NAME",
    "NOTHING_KEPT",
    "PARTS_NAME",
    "REBUILDS_NAME",
    "SHORTEST",
    "STATEMENT_LIMIT",
    "BuildKey",
    "Collected",
    "Domain",
    "Entry",
    "File",
    "Finished",
    "Freed",
    "ImageStore",
    "Kept",
    "KeptImages",
    "KeptParts",
    "Need",
    "PartIndex",
    "Rebuilds",
    "StoreDirectory",
    "collect_garbage",
    "image_archive",
    "make_provenance",
    "sbom",
    "sources_of",
    "users_of",
]
