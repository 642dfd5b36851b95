"""Takes an image's four files in as untrusted bytes: re-hashed, parsed, their verity root recomputed; never mounted."""

import os
from typing import Self

from mvmnix.builder.session.archive import ArchiveReader
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.formats import manifest, verity
from mvmnix.model import Artifact, Image
from mvmnix.system.store import Incoming, Store

#: The files of an image, in the order in which they are asked for; and the largest size of each, in bytes.
OUTPUTS = ("kernel", "initrd", "rootfs", "manifest.json")
LIMITS = {**manifest.LARGEST, "manifest.json": manifest.LIMIT}

_HINT = "the builder's output is not what its manifest says; build it again, and look at the build log"


class OutputImport:
    """Four files on their way into the store of images; what is not complete at the end leaves nothing behind."""

    def __init__(self, images: Store) -> None:
        self._images = images
        self._incoming: dict[str, Incoming] = {}
        self._reader = ArchiveReader(LIMITS, self.open)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for incoming in self._incoming.values():
            incoming.discard()

    def open(self, name: str) -> Incoming:
        """A file of that name begins."""
        self._incoming[name] = self._images.receive()
        return self._incoming[name]

    def has(self, name: str) -> bool:
        """Whether a file of that name has begun."""
        return name in self._incoming

    def write(self, data: bytes) -> None:
        """More of the archive. Raises RefusedError OUTPUT_MALFORMED."""
        self._reader.write(data)

    def image(self) -> Image:
        """The image, once the archive is complete and all of it agrees; its files are in the store then."""
        self._reader.close()
        return self.settle()

    def settle(self) -> Image:
        """The image, once every file was opened and closed; its files are in the store then. Raises RefusedError."""
        image = self.agreed()
        self.keep()
        return image

    def keep(self) -> None:
        """Give the files their names in the store."""
        for incoming in self._incoming.values():
            incoming.keep()

    def agreed(self) -> Image:
        """The image, once every file was opened and closed; raises RefusedError when they don't agree."""
        image = manifest.parse(self.manifest)
        reasons = [
            Reason(ReasonCode.ARTIFACT_MISMATCH, promised.name, f"the manifest says {promised}, it is {found}", _HINT)
            for promised in image.artifacts
            if (found := self._found(promised.name)) != promised
        ]
        reasons += self._verity(image)
        if reasons:
            raise RefusedError(*reasons)
        return image

    @property
    def manifest(self) -> bytes:
        """The bytes of manifest.json, once it was closed."""
        return self._incoming["manifest.json"].read()

    def _found(self, name: str) -> Artifact:
        incoming = self._incoming[name]
        return Artifact(name, incoming.digest, incoming.size)

    def _verity(self, image: Image) -> list[Reason]:
        """The root file system's own checks: its header is the one expected, and its root follows from its data."""
        fd = self._incoming["rootfs"].fd
        if os.fstat(fd).st_size != verity.image_size(image.verity):
            why = "data, superblock and hash tree don't add up to its size"
            return [Reason(ReasonCode.VERITY_MISMATCH, "rootfs", why, _HINT)]
        problems = [verity.superblock_problem(fd, image.verity)]
        tree = verity.hash_tree(fd, data_blocks=image.verity.data_blocks, salt=image.verity.salt)
        if tree.root != image.verity.root:
            problems.append(f"the manifest says verity root {image.verity.root}, its data make {tree.root}")
        if os.pread(fd, len(tree.blocks), image.verity.hash_offset + verity.BLOCK) != tree.blocks:
            problems.append("its hash tree is not the one that its data make")
        return [Reason(ReasonCode.VERITY_MISMATCH, "rootfs", problem, _HINT) for problem in problems if problem]
