"""Counts who agrees for a threshold: each build once, each signer once, by key or certified identity; pure."""

from collections.abc import Set as AbstractSet

from mvmnix.model import Digest
from mvmnix.provenance.verify.authentication import Attested, Authentic


class Quorum:
    """Those that were counted so far. A key counts once too, under whatever names it signed."""

    def __init__(self) -> None:
        self._signers: set[Digest] = set()
        self._keys: dict[Digest, str] = {}
        self._builds: set[str] = set()

    def __len__(self) -> int:
        return len(self._signers)

    def count(self, it: Authentic | Attested, builds: AbstractSet[str] = frozenset()) -> str:
        """Count it, for a build that has these names; returns why it doesn't count, "" where it does."""
        name, key = repr(it.signer.name), it.spki
        if builds & self._builds:
            return "it is of a build that is counted already"
        if it.signer.fingerprint in self._signers:
            return f"{name} is counted already"
        if key in self._keys:
            return f"{name} and {self._keys[key]} signed with the same key, {key}"
        self._signers.add(it.signer.fingerprint)
        self._keys[key] = name
        self._builds |= builds
        return ""
