"""A SHA-256 digest and its spellings, apart from model.py, since what calls a machine needs no other noun; no I/O."""

import base64
import re
from dataclasses import dataclass
from typing import Self, override

#: The alphabet of Nix's base 32.
NIX32 = "0123456789abcdfghijklmnpqrsvwxyz"
_HEX256 = re.compile(r"[0-9a-f]{64}")
#: Bytes of a SHA-256 digest.
_SIZE = 32


def nix32(data: bytes) -> str:
    """Nix's own base 32: least significant bits first, without e, o, t and u (nix: libutil/hash.cc)."""
    length = (len(data) * 8 - 1) // 5 + 1
    number = int.from_bytes(data, "little")
    return "".join(NIX32[(number >> (5 * index)) & 31] for index in reversed(range(length)))


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 digest; `hex` is 64 lower-case hexadecimal digits. The only algorithm that mvm knows."""

    hex: str

    def __post_init__(self) -> None:
        if not _HEX256.fullmatch(self.hex):
            raise ValueError(f"not a SHA-256 digest in hexadecimal: {self.hex!r}")

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The digest of these bytes."""
        import hashlib  # noqa: PLC0415 - a command that hashes nothing doesn't load OpenSSL

        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def from_sri(cls, text: str) -> Self:
        """Parse `sha256-<base64>` (W3C Subresource Integrity, as in flake.lock). Raises ValueError."""
        algorithm, _, encoded = text.partition("-")
        raw = base64.b64decode(encoded, validate=True)
        canonical = base64.b64encode(raw).decode() == encoded  # base64 has spare bits: one digest, one spelling
        if algorithm != "sha256" or len(raw) != _SIZE or not canonical:
            raise ValueError(f"not a SHA-256 SRI hash: {text!r}")
        return cls(raw.hex())

    @property
    def raw(self) -> bytes:
        """The 32 bytes."""
        return bytes.fromhex(self.hex)

    @property
    def sri(self) -> str:
        """`sha256-<base64>`, as Nix and browsers write it."""
        return "sha256-" + base64.b64encode(self.raw).decode()

    @property
    def nix32(self) -> str:
        """Nix's base 32, as in a narinfo's NarHash."""
        return nix32(self.raw)

    @override
    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def is_digest(text: str) -> bool:
    """Whether this is how a digest is written: 64 lower-case hexadecimal digits."""
    return _HEX256.fullmatch(text) is not None
