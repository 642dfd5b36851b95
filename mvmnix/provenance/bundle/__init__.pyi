from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT, Bundle, MessageBundle, parse_bundle
from mvmnix.provenance.bundle.statement import (
    PAYLOAD_TYPE,
    STATEMENT_LIMIT,
    STATEMENT_TYPE,
    Statement,
    Subject,
    distinct,
    parse_subject,
    subject_value,
)
from mvmnix.provenance.bundle.verification_material import (
    FINGERPRINT,
    LogEntry,
    Material,
    Proof,
    decode_base64,
    encode_base64,
    hash_output,
    raw_bytes,
    some_bytes,
    without_nulls,
)

__all__ = [
    "BUNDLE_LIMIT",
    "FINGERPRINT",
    "PAYLOAD_TYPE",
    "STATEMENT_LIMIT",
    "STATEMENT_TYPE",
    "Blob",
    "Bundle",
    "LogEntry",
    "Material",
    "MessageBundle",
    "Proof",
    "Statement",
    "Subject",
    "decode_base64",
    "distinct",
    "encode_base64",
    "envelope",
    "hash_output",
    "parse_bundle",
    "parse_subject",
    "raw_bytes",
    "some_bytes",
    "statement",
    "subject_value",
    "without_nulls",
]
