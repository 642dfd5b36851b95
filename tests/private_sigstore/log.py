"""Logs signatures as Rekor v1 does: an RFC 6962 tree, signed checkpoints, promises (SET)."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mvmnix.formats import strict
from tests.private_sigstore.authority import log_instance
from tests.private_sigstore.keys import LogKey, encode
from tests.private_sigstore.window import ALWAYS, Window

#: The log's first entry: cosign takes an index of 0 for a missing one.
GENESIS = b'{"apiVersion":"0.0.1","kind":"genesis","spec":{}}'
#: Rekor's id of its tree: in decimal in checkpoints, in hexadecimal before an entry's UUID.
TREE = 1 << 60


def leaf_hash(body: bytes) -> bytes:
    """RFC 6962, section 2.1."""
    return hashlib.sha256(b"\0" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, section 2.1."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """The Merkle tree hash of leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


def path_of(index: int, leaves: list[bytes]) -> tuple[bytes, ...]:
    """The audit path of a leaf (RFC 6962, section 2.1.1), lowest sibling first."""
    if len(leaves) == 1:
        return ()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return (*path_of(index, leaves[:split]), root_of(leaves[split:]))
    return (*path_of(index - split, leaves[split:]), root_of(leaves[:split]))


@dataclass(frozen=True, slots=True)
class Proof:
    """That the leaf at `index` is in the tree of `size` leaves with that `root`."""

    index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """The transparency log. Entries are never taken out; `name` is the origin of its checkpoints."""

    key: LogKey = field(default_factory=LogKey)
    valid_for: Window = ALWAYS
    name: str = "rekor.test"
    leaves: list[bytes] = field(default_factory=lambda: [leaf_hash(GENESIS)])

    def append(self, body: bytes) -> Proof:
        """Take an entry in; the proof is against the tree that ends with it."""
        self.leaves.append(leaf_hash(body))
        return self.proof(len(self.leaves) - 1)

    def proof(self, index: int) -> Proof:
        """A proof against the tree as it is now."""
        return Proof(index, len(self.leaves), root_of(self.leaves), path_of(index, self.leaves))

    def checkpoint_text(self, proof: Proof) -> str:
        """What a checkpoint says of the tree of a proof (C2SP tlog-checkpoint); Rekor's origin ends in a tree id."""
        return f"{self.name} - {TREE}\n{proof.size}\n{encode(proof.root)}\n"

    def signed_note(self, text: str) -> str:
        """The text and its signature (C2SP signed-note), with Rekor's key hash: the first bytes of the log id."""
        return f"{text}\n— {self.name} {encode(self.key.log_id[:4] + self.key.sign(text.encode()))}\n"

    def promise(self, body: bytes, index: int, integrated: datetime) -> bytes:
        """The signed entry timestamp: Rekor's signature over the canonical JSON of body, time, log and index."""
        entry = {
            "body": encode(body),
            "integratedTime": int(integrated.timestamp()),
            "logID": self.key.log_id.hex(),
            "logIndex": index,
        }
        return self.key.sign(strict.canonical(entry))

    def to_json(self) -> dict[str, Any]:
        """`TransparencyLogInstance` of a trusted root."""
        return log_instance(f"https://{self.name}", self.key, self.valid_for)
