"""Signed notes and the checkpoints in them, in C2SP's formats (signed-note, tlog-checkpoint), with Ed25519; pure."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self, override

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mvmnix.digest import Digest

#: A checkpoint with a dozen cosignatures of witnesses is far smaller.
MAX_NOTE: Final = 16_384
_ED25519: Final = b"\x01"
_NAME: Final = re.compile(r"[^\s+]{1,128}")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_DASH: Final = "\u2014 "


class NoteError(ValueError):
    """A note is malformed, or no signature of the expected key stands under it."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """Who signs notes: a name without spaces and `+`, and the 32 bytes of an Ed25519 public key."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"not the name of a note's key: {self.name!r}")
        if len(self.public_key) != 32:
            raise ValueError("an Ed25519 public key has 32 bytes")

    @classmethod
    def of_log(cls, public_key: bytes) -> Self:
        """The key of a host's audit log; its name, which is the log's origin too, follows from the key."""
        return cls(f"urn:mvmnix:log:{hashlib.sha256(public_key).hexdigest()[:16]}", public_key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a verifier key `<name>+<key ID in hexadecimal>+<base64 of 0x01 || key>`. Raises NoteError."""
        try:
            name, identity, encoded = text.split("+", 2)
            raw = _base64(encoded)
            key = cls(name, raw[1:])
        except ValueError as error:
            raise NoteError(f"not a verifier key of a signed note: {text!r}") from error
        if raw[:1] != _ED25519 or key.identity.hex() != identity:
            raise NoteError(f"not a verifier key for Ed25519, or its ID does not fit: {text!r}")
        return key

    @property
    def identity(self) -> bytes:
        """The key ID: the first 4 bytes of SHA-256(name || LF || 0x01 || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    @override
    def __str__(self) -> str:
        return f"{self.name}+{self.identity.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    def verified(self, note: bytes) -> bytes:
        """The text of a note, its last newline included, once this key's signature under it holds.

        Signatures of other keys (witnesses) are left alone, as the format asks. Raises NoteError.
        """
        text, signatures = _split(note)
        ours = [raw[4:] for name, raw in signatures if (name, raw[:4]) == (self.name, self.identity)]
        if len(ours) != 1:
            raise NoteError(f"{len(ours)} signatures of {self.name} stand under it, not one")
        (signature,) = ours
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError) as error:
            raise NoteError(f"the signature of {self.name} does not fit it") from error
        return text


@dataclass(frozen=True, slots=True)
class Signer:
    """The log's way to a private key: who signs, and a function that makes an Ed25519 signature over bytes."""

    key: NoteKey
    sign: Callable[[bytes], bytes]

    @classmethod
    def of_log(cls, public_key: bytes, sign: Callable[[bytes], bytes]) -> Self:
        """The signer of a host's audit log."""
        return cls(NoteKey.of_log(public_key), sign)

    def note(self, text: bytes) -> bytes:
        """The text with our signature under it."""
        signature = base64.b64encode(self.key.identity + self.sign(text)).decode()
        return text + f"\n{_DASH}{self.key.name} {signature}\n".encode()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log's key says of it: origin, number of records, root hash; `note` is the signed note that says so."""

    origin: str
    size: int
    root: Digest
    note: bytes

    @classmethod
    def sign(cls, size: int, root: bytes, signer: Signer) -> Self:
        """Say it."""
        text = _text(size, root, signer.key)
        return cls(signer.key.name, size, Digest(root.hex()), signer.note(text.encode()))

    @staticmethod
    def signed_text(size: int, root: bytes, key: NoteKey, signature: str) -> bytes:
        """The note of a checkpoint whose signature line's base64 is known; whether that fits, `verified` finds out."""
        return f"{_text(size, root, key)}\n{_DASH}{key.name} {signature}\n".encode()

    @classmethod
    def verified(cls, note: bytes, key: NoteKey) -> Self:
        """The checkpoint in a note, for the log whose key this is. Raises NoteError.

        1. The note is signed by the key. 2. Its origin is the key's name. 3. It has the three lines of a checkpoint and
        no extension, each in its only spelling.
        """
        text = key.verified(note)  # 1
        origin, *others = text.decode().removesuffix("\n").split("\n")
        if origin != key.name:  # 2
            raise NoteError(f"it speaks of the log {origin!r}, not of {key.name}")
        match others:  # 3
            case [size, encoded] if _SIZE.fullmatch(size):
                root = _base64(encoded)
            case _:
                raise NoteError("it is not the three lines of a checkpoint")
        if len(root) != hashlib.sha256().digest_size:
            raise NoteError("its root hash has not 32 bytes")
        return cls(key.name, int(size), Digest(root.hex()), note)


def _text(size: int, root: bytes, key: NoteKey) -> str:
    """The three lines of a checkpoint."""
    return f"{key.name}\n{size}\n{base64.b64encode(root).decode()}\n"


def _base64(text: str) -> bytes:
    """Standard base64 in its only spelling (padding bits are zero)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("it holds something that is not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise NoteError("it holds base64 in an unusual spelling")
    return raw


def _split(note: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The text of a note, and name and raw bytes (key ID and signature) of each line of signature."""
    if len(note) > MAX_NOTE:
        raise NoteError(f"it is longer than {MAX_NOTE} bytes")
    try:
        decoded = note.decode()
    except UnicodeDecodeError as error:
        raise NoteError("it is not UTF-8") from error
    body, separator, block = decoded.rpartition("\n\n")
    if not separator or not block.endswith("\n"):
        raise NoteError("it is not a text, an empty line and lines of signature")
    if any(ord(character) < 0x20 and character != "\n" for character in decoded):
        raise NoteError("it holds control characters")
    signatures = []
    for line in block.removesuffix("\n").split("\n"):
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        raw = _base64(encoded)
        if not line.startswith(_DASH) or not _NAME.fullmatch(name) or len(raw) < 5:
            raise NoteError("a line under it is not a signature")
        signatures.append((name, raw))
    return body.encode() + b"\n", signatures
