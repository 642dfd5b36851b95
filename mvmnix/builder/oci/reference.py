"""Reads what users type for OCI images: registry, name and digest, which can't come to mean another image; pure.

Names are those of the OCI distribution specification ("Pulling manifests").
"""

import re
from dataclasses import dataclass
from typing import Final, Self, override

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.model import DNS_NAME, Source

SCHEME: Final = "oci://"

_HOST: Final = re.compile(rf"({DNS_NAME}|127\.0\.0\.1|\[::1\])(:[1-9][0-9]{{0,4}})?")
_PART: Final = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(/{_PART})*")
_LONGEST_NAME: Final = 255
_TAG: Final = re.compile(r"(.*[^/:@]):[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, order=True)
class OciRef:
    """Something in a repository of a registry, by the SHA-256 of its bytes. `host` may have a port."""

    host: str
    name: str
    digest: Digest

    def __post_init__(self) -> None:
        if len(self.host) > 260 or not _HOST.fullmatch(self.host):
            raise ValueError(f"not the host of a registry: {self.host[:80]!r}")
        if len(self.name) > _LONGEST_NAME or not _NAME.fullmatch(self.name):
            raise ValueError(f"not the name of a repository: {self.name[:80]!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `oci://HOST[:PORT]/NAME@sha256:DIGEST`.

        Raises RefusedError [oci-unpinned] for a name that has a tag, or no digest; ValueError for what is no such text.
        """
        if not text.startswith(SCHEME) or not text.isascii():
            raise ValueError(f"not oci://HOST/NAME@sha256:DIGEST: {text[:200]!r}")
        place, at, digest = text.removeprefix(SCHEME).partition("@")
        host, _, name = place.partition("/")
        tagged = _TAG.fullmatch(name)
        if tagged is not None or (name and not at):
            raise _unpinned(text, f"{SCHEME}{host}/{tagged[1] if tagged else name}@{digest or 'sha256:…'}")
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256":
            raise ValueError(f"only SHA-256 names an image here, not {algorithm[:20]!r}")
        return cls(host, name, Digest(value))

    def sibling(self, digest: Digest) -> "OciRef":
        """Something else in the same repository."""
        return OciRef(self.host, self.name, digest)

    @property
    def source(self) -> Source:
        """The same as a file that may enter a build (modules/oci/rootfs.nix gives it the same name)."""
        return Source(str(self), f"oci-{self.digest.hex}", self.digest)

    @override
    def __str__(self) -> str:
        return f"{SCHEME}{self.host}/{self.name}@{self.digest}"


def _unpinned(text: str, pinned: str) -> RefusedError:
    why = "a tag means whatever its registry says today"
    hint = f"name the image by the digest of its manifest or index, and by that alone: {pinned[:300]}"
    return refuse(ReasonCode.OCI_UNPINNED, text[:300], why, hint)
