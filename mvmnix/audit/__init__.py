"""The audit log: an append-only Merkle tree of records whose size and root the host's key signs after each append."""
