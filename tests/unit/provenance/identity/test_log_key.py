"""Keys of transparency logs: each kind checks its own signatures, and no other name of a kind does."""

import pytest

from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.provenance.identity.trusted_root import LogKey

KEY = PrivateKey.generate(Algorithm.ECDSA_P256)


@pytest.mark.parametrize(
    ("algorithm", "details"),
    [(Algorithm.ECDSA_P256, "PKIX_ECDSA_P256_SHA_256"), (Algorithm.ED25519, "PKIX_ED25519")],
)
def test_a_log_s_key(algorithm: Algorithm, details: str) -> None:
    key = PrivateKey.generate(algorithm)
    signature = key.sign(b"it")
    it = LogKey(key.public.spki, details)
    assert it.verified(b"it", signature) == b"it"
    with pytest.raises(ValueError, match="did not make the signature"):
        it.verified(b"other", signature)
    others = {"PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384", "PKIX_ED25519", "PKIX_RSA_PSS"} - {details}
    for other in others:
        with pytest.raises(ValueError, match="is not one of the kind"):
            LogKey(key.public.spki, other).verified(b"it", signature)
    with pytest.raises(ValueError):
        LogKey(b"no key", details).verified(b"it", signature)


def test_a_log_s_key_of_another_curve() -> None:
    """prime192v2 (RFC 5480), which the library doesn't have."""
    spki = KEY.public.spki.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030102"))
    with pytest.raises(ValueError, match="of a kind that mvm does not know"):
        LogKey(spki, "PKIX_ECDSA_P256_SHA_256").verified(b"it", KEY.sign(b"it"))
