"""Says where a test may put itself between the layers of a bundle; each layer outside a change is made over it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mvmnix.keys import PrivateKey
from tests.private_sigstore.authority import Leaf, Sct
from tests.private_sigstore.log import Proof

type Json = dict[str, Any]
type Change[T] = Callable[[T], T]


def same[T](layer: T) -> T:
    """No change."""
    return layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Changes, from the innermost layer to the outermost; each is handed the layer as it was made.

    What a hook returns is what the layers outside are made over. So a changed payload in `envelope` breaks the DSSE
    signature alone (the log entry, its SET and its proof are about the changed envelope), a changed `leaf` gets a good
    SCT and a good CA signature, a changed `proof` a checkpoint that is signed over its root, and so on.
    """

    #: What the CA certifies: names, issuer, validity, usages. Good SCT and signature follow.
    leaf: Change[Leaf] = same
    #: The SCTs that the certificate embeds. The CA's signature follows.
    scts: Change[tuple[Sct, ...]] = same
    #: The certificate in DER, signed. Its copies in bundle and log entry follow.
    certificate: Change[bytes] = same
    #: Who makes the signature that the certificate or hint says is its key's.
    signing_key: Change[PrivateKey] = same
    #: The signature's bytes, which go into the envelope, the TSA's token and the log entry.
    signature: Change[bytes] = same
    #: `dsseEnvelope` or `messageSignature`, signed. TSA's token and log entry follow.
    content: Change[Json] = same
    #: When the TSA says that it saw the signature. The token follows.
    token_time: Change[datetime] = same
    #: The RFC 3161 response in DER, signed.
    token: Change[bytes] = same
    #: The log entry's body, before it is a leaf of the tree. SET, proof and checkpoint follow.
    body: Change[Json] = same
    #: When the log says that it took the entry. The SET follows.
    integrated_time: Change[datetime] = same
    #: The SET's signature.
    promise: Change[bytes] = same
    #: The inclusion proof. The checkpoint follows: it is about the proof's root and size.
    proof: Change[Proof] = same
    #: The checkpoint's text, before it is signed.
    checkpoint_text: Change[str] = same
    #: The checkpoint, signed.
    checkpoint: Change[str] = same
    #: The whole entry, as the bundle holds it.
    entry: Change[Json] = same
    #: The whole bundle, before it is written in canonical JSON.
    bundle: Change[Json] = same
    #: The bytes.
    data: Change[bytes] = same


UNCHANGED = Hooks()
