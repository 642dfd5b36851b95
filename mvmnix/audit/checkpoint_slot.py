"""The seals at the head of a segment: two places of fixed width, of which one at most is needed; pure.

The seal of a log of n records is kept at place n mod 2, so that a new one never covers the one before it. It is the
signature of the checkpoint alone: size and root follow from the records, and with them the whole signed note.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.audit.note import Checkpoint, NoteKey

_DIGITS: Final = 16
#: Base64 of the 4 bytes of a key's ID and the 64 bytes of an Ed25519 signature.
_SIGNATURE: Final = r"[A-Za-z0-9+/]{91}="
_LINE: Final = re.compile(rf'\{{"seal":"({_SIGNATURE})","size":"([0-9]{{{_DIGITS}}})"\}}\n')
#: How many places there are.
PLACES: Final = 2
#: Bytes of one place, its newline included.
WIDTH: Final = len('{"seal":"","size":""}\n') + 92 + _DIGITS
#: A place without a seal.
BLANK: Final = b" " * (WIDTH - 1) + b"\n"
NO_SEALS: Final = (BLANK, BLANK)


@dataclass(frozen=True, slots=True)
class Seal:
    """The signature over the checkpoint of `size` records, as it stands in the note's last line (base64)."""

    size: int
    signature: str

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """The seal that says what this checkpoint of our own says."""
        return cls(checkpoint.size, checkpoint.note.decode().rstrip("\n").rpartition(" ")[2])

    @classmethod
    def parse(cls, line: bytes, place: int) -> Self | None:
        """Read what stands at a place; None when it is blank, torn or does not belong there."""
        match = _LINE.fullmatch(line.decode(errors="replace"))
        if match is None or int(match[2]) % PLACES != place:
            return None
        return cls(int(match[2]), match[1])

    @property
    def place(self) -> int:
        """Where it is kept."""
        return self.size % PLACES

    @property
    def line(self) -> bytes:
        """What stands there, `WIDTH` bytes."""
        return f'{{"seal":"{self.signature}","size":"{self.size:0{_DIGITS}}"}}\n'.encode()

    @property
    def alone(self) -> tuple[bytes, bytes]:
        """Both places where there is no other seal."""
        return (self.line, BLANK) if self.place == 0 else (BLANK, self.line)

    def checkpoint(self, root: bytes, key: NoteKey) -> Checkpoint:
        """The checkpoint, once the signature holds for this root. Raises NoteError."""
        return Checkpoint.verified(Checkpoint.signed_text(self.size, root, key, self.signature), key)
