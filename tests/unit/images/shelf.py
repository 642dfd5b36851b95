"""A library on disk with a small image in it, for the tests of what is kept."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.images.store import BuildKey, ImageStore, VerifiedImage
from mvmnix.system.private_dirs import Directory
from tests.descriptors import until_the_end
from tests.fakes import files_of
from tests.unit.provenance.world import World, new_world

TREE = Digest.of(b"root tree")
BUILDER = "/nix/store/0-guest-builder.drv"
KEY = BuildKey(TREE, "examples/hello", "default", BUILDER)


@dataclass
class Shelf:
    """A library on disk, and a world whose image lies in it."""

    path: Path
    world: World

    def __post_init__(self) -> None:
        self.library = until_the_end(ImageStore(until_the_end(Directory.create(str(self.path)))))
        self.hold(self.world)

    def hold(self, world: World) -> None:
        for data in files_of(world).values():
            self.library.images.put(data, Digest.of(data))

    def keep(self, key: BuildKey = KEY, world: World | None = None) -> VerifiedImage:
        it = world or self.world
        return self.library.keep(key, it.evidence, policy=it.policy, now=it.now)

    def find(self, key: BuildKey = KEY) -> VerifiedImage | None:
        return self.library.find(key, policy=self.world.policy, now=self.world.now)

    def refusal(self) -> RefusedError:
        """Why what is found is refused."""
        with pytest.raises(RefusedError) as refusal:
            self.find()
        return refusal.value

    def file(self, room: str, data: bytes) -> Path:
        return self.path / room / Digest.of(data).hex

    def index(self, key: BuildKey = KEY) -> Path:
        return self.path / "builds" / key.name


def spoil(path: Path) -> None:
    """Flip the last byte, and leave no other trace."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def other_world(tmp_path: Path) -> World:
    """Another build by the same builder, which verifies as well."""
    (tmp_path / "other").mkdir()
    world = new_world(tmp_path / "other", seed=1)
    world.sign_provenance(directory="examples/other")
    return world
