"""What is signed and how it is carried: in-toto statements, DSSE envelopes and Sigstore bundles, without any trust."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "blob": "Blob",
        "envelope": "Bundle BUNDLE_LIMIT MessageBundle parse_bundle",
        "statement": (
            "distinct parse_subject PAYLOAD_TYPE Statement STATEMENT_LIMIT STATEMENT_TYPE Subject subject_value"
        ),
        "verification_material": (
            "decode_base64 encode_base64 FINGERPRINT hash_output Inclusion LogEntry Material Proof raw_bytes "
            "some_bytes without_nulls"
        ),
    },
    modules=["envelope", "statement"],
)
