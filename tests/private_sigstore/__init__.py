"""A whole Sigstore for tests: CA, CT log, transparency log, timestamp authority and OIDC issuer, for nobody's trust.

In one process, without network or threads, `Sigstore()` makes trusted roots and bundles:

    private = Sigstore()
    bundle = private.attest(statement, at=NOW, subject="ci@example.test", issuer="https://issuer.test")
    forged = private.attest(statement, at=NOW, hooks=Hooks(signature=lambda _: b"no"))

`Hooks` says which layers a test may change. `served` (tests/private_sigstore/server.py) puts the same instance behind
HTTP on loopback, so that unmodified clients sign with it.
"""

from tests.private_sigstore.authority import ISSUER_V1, ISSUER_V2, Leaf, Sct, issuer_fields, name
from tests.private_sigstore.hooks import Hooks, Json
from tests.private_sigstore.instance import Sigstore, entry_of, merged
from tests.private_sigstore.log import Proof
from tests.private_sigstore.window import Window

__all__ = [
    "ISSUER_V1",
    "ISSUER_V2",
    "Hooks",
    "Json",
    "Leaf",
    "Proof",
    "Sct",
    "Sigstore",
    "Window",
    "entry_of",
    "issuer_fields",
    "merged",
    "name",
]
