"""What the files of an image say of each other is checked before one of them stays, whoever sent them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.builder.session.import_outputs import LIMITS, OUTPUTS, OutputImport
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.model import Digest, Image, Verity
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.support.archives import ustar
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import World, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Directory.create(str(tmp_path / "images")))


@pytest.fixture
def image(tmp_path: Path) -> World:
    return worlds.new_world(tmp_path)


def names(directory: Path) -> list[str]:
    """What lies in the store, temporary files among them."""
    return sorted(path.name for path in (directory / "images").iterdir())


def sent(it: World) -> bytes:
    return ustar({"kernel": it.kernel, "initrd": it.initrd, "rootfs": it.rootfs, "manifest.json": it.manifest})


def take(store: Store, archive: bytes) -> Image:
    with OutputImport(store) as imported:
        imported.write(archive)
        return imported.image()


def test_an_image_is_taken(store: Store, image: World, tmp_path: Path) -> None:
    assert take(store, sent(image)) == image.image
    kept = names(tmp_path)
    assert kept == sorted(artifact.digest.hex for artifact in image.image.artifacts)


def flip(name: str, position: int) -> Callable[[World], object]:
    def change(it: World) -> None:
        data = bytearray(getattr(it, name))
        data[position] ^= 1
        setattr(it, name, bytes(data))

    return change


def described(it: World) -> None:
    """Let the manifest name the digest of the root file system that lies there, whatever it is."""
    digest, size = Digest.of(it.rootfs).hex, len(it.rootfs)
    it.change_manifest(put(digest, "artifacts", "rootfs", "sha256"))
    it.change_manifest(put(size, "artifacts", "rootfs", "size"))


def changed_manifest(*path: str, value: object) -> Callable[[World], object]:
    return lambda it: it.change_manifest(put(value, *path))


def grown(it: World) -> None:
    it.rootfs += bytes(Verity.BLOCK)


def shrunk(it: World) -> None:
    it.rootfs = it.rootfs[: -Verity.BLOCK]


def other_manifest(data: bytes) -> Callable[[World], object]:
    return lambda it: setattr(it, "manifest", data)


SUPERBLOCK = worlds.BLOCKS * Verity.BLOCK


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param([flip("kernel", 0)], Code.ARTIFACT_MISMATCH, id="another kernel"),
        pytest.param([flip("initrd", -1)], Code.ARTIFACT_MISMATCH, id="another initrd"),
        pytest.param([flip("rootfs", 0), described], Code.VERITY_MISMATCH, id="a data block"),
        pytest.param([flip("rootfs", SUPERBLOCK + 9), described], Code.VERITY_MISMATCH, id="the superblock"),
        pytest.param([grown, described], Code.VERITY_MISMATCH, id="a block that the tree does not cover"),
        pytest.param([shrunk, described], Code.VERITY_MISMATCH, id="a block less"),
        pytest.param([changed_manifest("verity", "root", value="0" * 64)], Code.VERITY_MISMATCH, id="another root"),
        pytest.param([changed_manifest("verity", "salt", value="00")], Code.VERITY_MISMATCH, id="another salt"),
        pytest.param([changed_manifest("artifacts", "kernel", "size", value=1)], Code.ARTIFACT_MISMATCH, id="a size"),
        pytest.param([changed_manifest("more", value=1)], Code.MANIFEST_MALFORMED, id="a field more"),
        pytest.param([changed_manifest("artifacts", "kernel", "file", value="../x")], Code.MANIFEST_MALFORMED, id="up"),
        pytest.param([other_manifest(b"{}")], Code.MANIFEST_MALFORMED, id="an empty manifest"),
        pytest.param([other_manifest(b"\xff")], Code.MANIFEST_MALFORMED, id="a manifest that is no text"),
        pytest.param([other_manifest(b"[" * 10_000)], Code.MANIFEST_MALFORMED, id="a deep manifest"),
    ],
)
def test_what_does_not_agree_leaves_nothing(
    store: Store, image: World, tmp_path: Path, changes: list[Callable[[World], object]], code: Code
) -> None:
    for change in changes:
        change(image)
    with pytest.raises(RefusedError) as caught:
        take(store, sent(image))
    assert set(caught.value.codes) == {code}
    assert names(tmp_path) == []


def test_a_hash_block_below_the_root_is_wrong(store: Store, image: World, tmp_path: Path) -> None:
    """The root follows from the data; a tree that does not would be found only when the guest reads."""
    flip("rootfs", SUPERBLOCK + 2 * Verity.BLOCK + 5)(image)
    described(image)
    with pytest.raises(RefusedError) as caught:
        take(store, sent(image))
    assert set(caught.value.codes) == {Code.VERITY_MISMATCH}
    assert names(tmp_path) == []


def test_a_torn_archive_leaves_nothing(store: Store, image: World, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        take(store, sent(image)[:-20_000])
    assert names(tmp_path) == []


def test_a_limit_for_each_file() -> None:
    assert set(LIMITS) == set(OUTPUTS)
