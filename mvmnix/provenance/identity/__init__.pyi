from mvmnix.provenance.identity import (
    certificates,
    certified_build,
    domain_check,
    rekor_body,
    revocation_check,
    revocations,
    sigstore,
    trusted_root,
)
from mvmnix.provenance.identity.domain_check import DomainCase, IdentityFindings
from mvmnix.provenance.identity.revocation_check import RevocationSubject, certified_key, identity_words
from mvmnix.provenance.identity.revocations import RevocationFile, Revoked, read_pattern
from mvmnix.provenance.identity.sigstore import Instance, public_good_root
from mvmnix.provenance.identity.trust import Identity, Pattern, Revocations, Signer, Trust

__all__ = [
    "DomainCase",
    "Identity",
    "IdentityFindings",
    "Instance",
    "Pattern",
    "RevocationFile",
    "RevocationSubject",
    "Revocations",
    "Revoked",
    "Signer",
    "Trust",
    "certificates",
    "certified_build",
    "certified_key",
    "domain_check",
    "identity_words",
    "public_good_root",
    "read_pattern",
    "rekor_body",
    "revocation_check",
    "revocations",
    "sigstore",
    "trusted_root",
]
