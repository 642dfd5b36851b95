"""Admits plans for a small and for a large root filesystem: with verity, the size is not to matter."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.pairs import Pair, pair
from mvmnix.formats import strict, verity
from mvmnix.model import Artifact, Verity
from mvmnix.system.store import digest_of
from mvmnix.vmm.boot_files import OpenFiles
from tests.unit.provenance import world as worlds

_MIB = 1 << 20
#: Verified so often for one time, since a single admission takes milliseconds.
_AT_ONCE = 10


def admission(small_mib: int, large_mib: int, *, rounds: int) -> Pair:
    """How long the gate takes for a root filesystem of `large_mib`, against one of `small_mib`."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        large, small = (_of(Path(name), size) for size in (large_mib, small_mib))
        with large as ours, small as theirs:
            return pair(ours, theirs, rounds=rounds)


@contextmanager
def _of(directory: Path, mib: int) -> Iterator[Callable[[], None]]:
    """A signed plan for an image of that size; the data is a hole, and no less data for that."""
    here = directory / str(mib)
    here.mkdir()
    blocks = mib * _MIB // verity.BLOCK
    rootfs = here / "rootfs"
    with rootfs.open("w+b") as file:
        file.truncate(blocks * verity.BLOCK)
        tree = verity.hash_tree(file.fileno(), data_blocks=blocks, salt=worlds.SALT)
        parameters = Verity(
            tree.root, worlds.SALT, "12345678-1234-4234-8234-123456789abc", blocks, blocks * verity.BLOCK
        )
        file.seek(0, os.SEEK_END)
        file.write(verity.superblock(parameters) + tree.blocks)
        file.flush()
        artifact = Artifact("rootfs", *digest_of(file.fileno()))
    world = _world(here, parameters, artifact)
    fds = [os.open(here / each, os.O_RDONLY) for each in ("kernel", "initrd", "rootfs")]
    try:
        yield lambda: _admit(world, OpenFiles(*fds))
    finally:
        for fd in fds:
            os.close(fd)


def _world(here: Path, parameters: Verity, rootfs: Artifact) -> worlds.World:
    kernel, initrd = b"kernel" * 1000, b"initrd" * 1000
    (here / "kernel").write_bytes(kernel)
    (here / "initrd").write_bytes(initrd)
    value = worlds.manifest_value(kernel=kernel, initrd=initrd, rootfs=b"", tree=parameters)
    value["artifacts"]["rootfs"] = {"file": "rootfs", "sha256": rootfs.digest.hex, "size": rootfs.size}
    world = worlds.World(kernel, initrd, b"", strict.canonical(value))
    world.sign_provenance()
    world.sign_plan()
    return world


def _admit(world: worlds.World, files: OpenFiles) -> None:
    for _ in range(_AT_ONCE):
        world.admitted(files).close()
