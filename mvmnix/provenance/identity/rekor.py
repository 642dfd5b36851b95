"""Says why a log entry does not show that a transparency log holds a signature; nothing when it does; pure.

These are steps 3.3 and 3.4 of transparency.py. What a log signs: an inclusion promise (SET, signed entry timestamp)
over canonical JSON (RFC 8785; integers and ASCII only) of body, time, log and index; and checkpoints (C2SP
tlog-checkpoint in a signed note) over size and root of its Merkle tree (RFC 6962), to which an inclusion proof leads.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mvmnix.audit.merkle import HASH_SIZE, leaf_hash
from mvmnix.audit.merkle_proof import root_by_inclusion
from mvmnix.formats import strict
from mvmnix.provenance.bundle.verification_material import (
    LogEntry,
    Proof,
    decode_base64,
    encode_base64,
)
from mvmnix.provenance.identity.trusted_root import Log, TrustedRoot

_SIGNATURE: Final = re.compile("\u2014 ([^\\s+]{1,255}) ([A-Za-z0-9+/]+={0,2})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log signed of its tree: `text`. A signature under it is a key's name, 4 bytes of its ID, and bytes."""

    text: bytes
    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def parse(cls, note: str) -> "Checkpoint":
        """Read a note. Lines after the third are extensions. Raises ValueError."""
        text, _, block = note.rpartition("\n\n")
        lines = text.split("\n")
        if not block.endswith("\n") or len(lines) < 3 or not lines[0]:
            raise ValueError("not a signed note with origin, size and root")
        if not _SIZE.fullmatch(lines[1]):
            raise ValueError("its size is not a number")
        found = [_SIGNATURE.fullmatch(line) for line in block.removesuffix("\n").split("\n")]
        signatures = [(one[1], decode_base64(one[2])) for one in found if one is not None]
        if len(signatures) != len(found) or any(len(raw) < 5 for _, raw in signatures):
            raise ValueError("a line under it is not a signature")
        parts = tuple((name, raw[:4], raw[4:]) for name, raw in signatures)
        return cls(f"{text}\n".encode(), lines[0], int(lines[1]), decode_base64(lines[2]), parts)

    def signature_of(self, log: Log) -> tuple[str, bytes]:
        """Name and bytes of the log's own signature; those of others (witnesses) are left alone. Raises ValueError."""
        # the key's ID in a note is the beginning of its log's, in Rekor's first version as in its second
        ours = [(name, signature) for name, key, signature in self.signatures if key == log.log_id[:4]]
        match ours:
            case [only]:
                return only
            case _:
                raise ValueError(f"{len(ours)} signatures of the log stand under it, not one")


def root_of(body: bytes, proof: Proof) -> bytes:
    """The root to which a path leads (RFC 9162, section 2.1.3.2). Raises ValueError.

    >>> root_of(b"a", Proof(0, 1, b"", (), "")) == leaf_hash(b"a")
    True
    """
    if not 0 <= proof.index < proof.size:
        raise ValueError(f"there is no leaf {proof.index} in a tree of {proof.size}")
    if {*map(len, proof.hashes)} - {HASH_SIZE}:
        raise ValueError("its path holds something that is not a hash")
    return root_by_inclusion(leaf_hash(body), proof.index, proof.size, proof.hashes)


def incoherences(entry: LogEntry, root: TrustedRoot) -> Iterator[str]:
    """What contradicts itself in an entry, regardless of who signed what: things that no signature covers."""
    if entry.promise is None and entry.integrated:
        yield "it names a time that the log did not promise"
    if entry.promise is None and entry.proof is None:
        yield "it has neither a proof nor the log's promise"
    if entry.promise is None and entry.proof is not None and entry.index != entry.proof.index:
        yield "the log did not promise its index, which is not that of the proof"
    log = root.log(entry.log_id)
    if log is None:
        yield f"no log of the trust root has the ID {entry.log_id.hex()}"
    elif entry.proof is not None:
        yield from _other_tree(entry.proof, log)


def _other_tree(proof: Proof, log: Log) -> Iterator[str]:
    """Whether the checkpoint is of that log, and about the tree of the proof."""
    try:
        checkpoint = Checkpoint.parse(proof.checkpoint)
        name, _ = checkpoint.signature_of(log)
    except ValueError as error:
        yield f"its checkpoint is malformed: {error}"
        return
    if (checkpoint.size, checkpoint.root) != (proof.size, proof.root):
        yield "its checkpoint is about another tree than its proof"
    # Rekor's first version puts the ID of a tree behind the name
    if checkpoint.origin != name and not checkpoint.origin.startswith(f"{name} - "):
        yield f"its checkpoint is of the log {checkpoint.origin!r}, and signed in the name of {name!r}"


def unproven(entry: LogEntry, log: Log) -> Iterator[str]:
    """What the log did not sign, or what its tree does not hold."""
    if entry.proof is not None:
        yield from _unproven(entry.body, entry.proof, log)
    if entry.promise is not None:
        try:
            log.key.verified(signed_by_promise(entry), entry.promise)
        except ValueError as error:
            yield f"its inclusion promise (SET) is not the log's: {error}"


def _unproven(body: bytes, proof: Proof, log: Log) -> Iterator[str]:
    try:
        if root_of(body, proof) != proof.root:
            yield "its proof does not lead to the root of the log's tree"
    except ValueError as error:
        yield f"its proof is malformed: {error}"
    try:
        checkpoint = Checkpoint.parse(proof.checkpoint)
        log.key.verified(checkpoint.text, checkpoint.signature_of(log)[1])
    except ValueError as error:
        yield f"its checkpoint is not the log's: {error}"


def promised_time(entry: LogEntry) -> datetime | None:
    """When the log promises to have taken the entry in; None where it promises no time."""
    if entry.promise is None or not entry.integrated:
        return None
    return datetime.fromtimestamp(entry.integrated, UTC) if entry.integrated < 2**36 else None


def signed_by_promise(entry: LogEntry) -> bytes:
    """What an inclusion promise is a signature over."""
    return strict.canonical(
        {
            "body": encode_base64(entry.body),
            "integratedTime": entry.integrated or 0,
            "logID": entry.log_id.hex(),
            "logIndex": entry.index,
        }
    )
