"""Says where the next record of a log goes: its verified end, in bytes of its last segment's file; pure."""

from dataclasses import dataclass
from typing import Self

from mvmnix.audit.checkpoint_slot import PLACES, WIDTH
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint
from mvmnix.audit.segment import CAPACITY, Segment
from mvmnix.audit.tail import Head


@dataclass(frozen=True, slots=True)
class End:
    """A verified end of the log, as far as the next record needs it; `places` and offsets are in bytes of the file.

    `before` is the tree before the last segment's first record, `start` where its places for seals begin, `end` where
    the next record will; from there on spaces are written ahead, up to `size`.
    """

    checkpoint: Checkpoint
    tree: CompactRange
    before: CompactRange
    places: bytes
    start: int
    end: int
    size: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, tree: CompactRange, segment: Segment) -> Self:
        """The end in a segment whose sealed records are all that it has."""
        places, size = b"".join(segment.places), len(segment.data)
        return cls(checkpoint, tree, segment.before, places, segment.start, size - segment.spare, size)

    @classmethod
    def of_head(cls, head: Head) -> Self:
        """The end where nothing but spaces follows; where something does, it is cut off before anything else."""
        return cls.of(head.checkpoint, head.tree, head.whole if head.tail else head.segment)

    @property
    def first(self) -> int:
        """The index of the last segment's first record."""
        return self.before.size

    @property
    def is_full(self) -> bool:
        """Whether the next record begins another segment."""
        return self.tree.size - self.first >= CAPACITY

    def place(self, number: int) -> int:
        """Where in the file a place for a seal is."""
        return self.start + number % PLACES * WIDTH
