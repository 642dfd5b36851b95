"""What a receipt says of one share: its place in the guest, and by what the guest got it; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix import strict
from mvmnix.launch.plan.share import Access, ShareKind
from mvmnix.model import Digest

_PATH: Final = r"/[^\x00-\x1f\x7f]{0,4095}"


@dataclass(frozen=True, slots=True)
class ShareRecord:
    """`program` served it or made its image; `digest` is that of the program's bytes."""

    guest: str
    access: Access
    kind: ShareKind
    program: str
    digest: Digest
    #: The image's, where the guest got one.
    image: Digest | None = None

    def value(self) -> Mapping[str, object]:
        """As it stands in the receipt."""
        program = {"path": self.program, "sha256": self.digest.hex}
        value = {"guest": self.guest, "access": self.access, "fileSystem": self.kind, "program": program}
        return value if self.image is None else {**value, "image": self.image.hex}

    @classmethod
    def read(cls, record: strict.Record) -> "ShareRecord":
        """As `value` wrote it. Raises ValueError."""
        program, digest = record.child("program", lambda it: (it.text("path", _PATH), it.digest()))
        image = record.digest("image") if record.has("image") else None
        kind = record.choice("fileSystem", ShareKind)
        return cls(record.text("guest", _PATH), record.choice("access", Access), kind, program, digest, image)
