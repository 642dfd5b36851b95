"""Who signed: keys, certificates, trust domains and their logs, revocations."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "domain_check": "DomainCase IdentityFindings",
        "revocation_check": "certified_key identity_words RevocationSubject",
        "revocations": "read_pattern RevocationFile Revoked",
        "sigstore": "Instance public_good_root",
        "trust": "Identity Pattern Revocations Signer Trust",
    },
    modules=[
        "certificates",
        "certified_build",
        "domain_check",
        "rekor_body",
        "revocation_check",
        "revocations",
        "sigstore",
        "trusted_root",
    ],
)
