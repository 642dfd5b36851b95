from mvmnix.audit.anchored_log import AnchorAnswer, AnchoredLog, ask_anchors
from mvmnix.audit.anchors import Anchor, CommandAnchor, FileAnchor, GitAnchor
from mvmnix.audit.log import AuditLog
from mvmnix.audit.merkle import leaf_hash, node_hash
from mvmnix.audit.note import MAX_NOTE, Checkpoint, NoteError, NoteKey, Signer
from mvmnix.audit.proof import MAGIC, MAX_PROOF, ConsistencyProof, InclusionProof
from mvmnix.audit.reading import SealedRecord, last_records, leaf_hashes, matching_records, records_backwards
from mvmnix.audit.record import Record, RecordKind, Serials
from mvmnix.audit.segment import segment_name
from mvmnix.audit.tail import (
    Head,
    NoLogError,
    foreign_checkpoint,
    hold_writers,
    is_begun,
    lost_log,
    no_log,
    read_head,
    read_segment,
    rolled_back,
    segment_indices,
)
from mvmnix.audit.tally import Tally
from mvmnix.audit.verify import LogEvidence, Visit, verify_log
from mvmnix.audit.vouched import vouched_record

__all__ = [
    "MAGIC",
    "MAX_NOTE",
    "MAX_PROOF",
    "Anchor",
    "AnchorAnswer",
    "AnchoredLog",
    "AuditLog",
    "Checkpoint",
    "CommandAnchor",
    "ConsistencyProof",
    "FileAnchor",
    "GitAnchor",
    "Head",
    "InclusionProof",
    "LogEvidence",
    "NoLogError",
    "NoteError",
    "NoteKey",
    "Record",
    "RecordKind",
    "SealedRecord",
    "Serials",
    "Signer",
    "Tally",
    "Visit",
    "ask_anchors",
    "foreign_checkpoint",
    "hold_writers",
    "is_begun",
    "last_records",
    "leaf_hash",
    "leaf_hashes",
    "lost_log",
    "matching_records",
    "no_log",
    "node_hash",
    "read_head",
    "read_segment",
    "records_backwards",
    "rolled_back",
    "segment_indices",
    "segment_name",
    "verify_log",
    "vouched_record",
]
