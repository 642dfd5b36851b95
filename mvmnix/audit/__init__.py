"""The audit log: an append-only Merkle tree of records whose size and root the host's key signs after each append."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "log": "AuditLog",
        "merkle": "leaf_hash node_hash",
        "note": "Checkpoint MAX_NOTE NoteError NoteKey Signer",
        "proof": "ConsistencyProof InclusionProof MAGIC MAX_PROOF",
        "reading": "last_records leaf_hashes matching_records records_backwards SealedRecord",
        "record": "Record RecordKind Serials",
        "segment": "segment_name",
        "tail": (
            "foreign_checkpoint Head hold_writers is_begun lost_log no_log NoLogError read_head read_segment "
            "rolled_back segment_indices"
        ),
        "tally": "Tally",
        "verify": "LogEvidence verify_log Visit",
        "vouched": "vouched_record",
        "anchored_log": "AnchorAnswer AnchoredLog ask_anchors",
        "anchors": "Anchor CommandAnchor FileAnchor GitAnchor",
    },
)
