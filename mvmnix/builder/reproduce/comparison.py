"""Says whether two builds made the same image, as evidence and never as a yes or no; pure.

Agreement is byte for byte: all four files of both images have the same digests. There is no lesser kind.
"""

from dataclasses import dataclass
from typing import Final, final

from mvmnix.model import Artifact, Image
from mvmnix.sealed import Seal, Sealed

_SEAL: Final = Seal()


@final
@_SEAL.of("compare_images()")
@dataclass(frozen=True, slots=True)
class Agreement(Sealed):
    """Two builds made this image. Only `compare_images` makes one."""

    image: Image


@dataclass(frozen=True, slots=True)
class Difference:
    """A file of the image, as the first build made it and as the second one did."""

    first: Artifact
    second: Artifact

    def __post_init__(self) -> None:
        if self.first.name != self.second.name or self.first.digest == self.second.digest:
            raise ValueError("a difference is between two files of one name")

    @property
    def name(self) -> str:
        """The file's name in the image."""
        return self.first.name


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two builds made two images; the files that differ, at least one, in the order in which claims name them."""

    differences: tuple[Difference, ...]

    def __post_init__(self) -> None:
        if not self.differences:
            raise ValueError("a disagreement is about something")


def compare_images(first: Image, second: Image) -> Agreement | Disagreement:
    """Compare two images by the digests of their files, which the caller has taken from the files themselves."""
    pairs = zip(first.artifacts, second.artifacts, strict=True)
    differences = tuple(Difference(one, other) for one, other in pairs if one.digest != other.digest)
    return Disagreement(differences) if differences else Agreement(first, seal=_SEAL)
