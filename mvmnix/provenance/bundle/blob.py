"""Says what is known of a file that bundles may be about, and whether a set of digests names it; pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import override

from mvmnix.digest import Digest


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that a bundle may be about: its digest, and a way to its bytes where there is one.

    `others` has the digests of those same bytes by other algorithms, under their names in foreign.ALGORITHMS; it raises
    ValueError where the bytes are no longer the same. `digest` is None for a file that is known by another digest only;
    revocations and bare signatures name none of those.
    """

    digest: Digest | None
    read: Callable[[], bytes] | None = None
    others: Callable[[], Mapping[str, str]] | None = None

    @override
    def __str__(self) -> str:
        if self.digest is not None:
            return str(self.digest)
        return " ".join(f"{name}:{digest}" for name, digest in self.others().items()) if self.others else "no file"

    def is_named(self, digests: Mapping[str, str]) -> bool:
        """Whether a set of digests names this file: there is one that can be compared, and all of those are its own.

        Without a way to the bytes that is the digest by which it is known alone.
        """
        own: Mapping[str, str] = {} if self.digest is None else {"sha256": self.digest.hex}
        if any(digests.get(name, digest) != digest for name, digest in own.items()):
            return False
        if self.others is not None and digests.keys() - own.keys():
            own = {**self.others(), **own}
        compared = digests.keys() & own.keys()
        return bool(compared) and all(digests[name] == own[name] for name in compared)
