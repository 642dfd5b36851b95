"""Taking an image in: all four files agree with the manifest and with each other, or nothing stays in the store."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mvmnix.builder.session.import_outputs import LIMITS, OUTPUTS, OutputImport
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats import strict
from mvmnix.model import Verity
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.descriptors import nothing_left_open
from tests.fakes import files_of, ustar
from tests.unit.provenance.world import BLOCKS, Json, World, new_world


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "images")) as directory:
        yield Store(directory)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "world").mkdir()
    return new_world(tmp_path / "world")


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "images").iterdir())


def refused(store: Store, tmp_path: Path, files: Mapping[str, bytes]) -> RefusedError:
    """Why these files are not taken in, of which none stays."""
    with pytest.raises(RefusedError) as refusal, OutputImport(store) as imported:
        imported.write(ustar(files))
        imported.image()
    assert kept(tmp_path) == []
    return refusal.value


def described(world: World, change: Callable[[Json], object]) -> bytes:
    value = strict.parse_json(world.manifest)
    assert isinstance(value, dict)
    change(value)
    return strict.canonical(value)


def test_a_complete_image_is_kept_under_its_digests(world: World, store: Store, tmp_path: Path) -> None:
    with OutputImport(store) as imported:
        imported.write(ustar(files_of(world)))
        assert imported.image() == world.image
    assert kept(tmp_path) == sorted(Digest.of(data).hex for data in files_of(world).values())
    with OutputImport(store) as again:
        again.write(ustar(files_of(world)))
        assert again.image() == world.image, "what is there already is kept once more"


def test_files_that_come_one_by_one(world: World, store: Store, tmp_path: Path) -> None:
    with OutputImport(store) as imported:
        for name in OUTPUTS:
            incoming = imported.open(name)
            incoming.write(files_of(world)[name])
            incoming.close()
        assert imported.settle() == world.image
    assert len(kept(tmp_path)) == 4


def _same_digest(value: Json) -> None:
    value["artifacts"]["kernel"]["sha256"] = "0" * 64


def _larger(value: Json) -> None:
    value["artifacts"]["initrd"]["size"] += 1


def _both(value: Json) -> None:
    _same_digest(value)
    _larger(value)


def _more_blocks(value: Json) -> None:
    value["verity"] |= {"dataBlocks": BLOCKS + 1, "hashOffset": (BLOCKS + 1) * 4096}


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (_same_digest, [Code.ARTIFACT_MISMATCH]),
        (_larger, [Code.ARTIFACT_MISMATCH]),
        (_both, [Code.ARTIFACT_MISMATCH] * 2),
        (lambda value: value["verity"].update(root="0" * 64), [Code.VERITY_MISMATCH]),
        (lambda value: value["verity"].update(salt="00"), [Code.VERITY_MISMATCH] * 3),
        (lambda value: value["verity"].update(uuid="0" * 8 + "-0000" * 3 + "-" + "0" * 12), [Code.VERITY_MISMATCH]),
        (_more_blocks, [Code.VERITY_MISMATCH]),
        (lambda value: value.pop("vcpus"), [Code.MANIFEST_MALFORMED]),
        (lambda value: value.update(more=1), [Code.MANIFEST_MALFORMED]),
    ],
)
def test_a_manifest_that_says_something_else(
    world: World, store: Store, tmp_path: Path, change: Callable[[Json], object], codes: list[Code]
) -> None:
    files = files_of(world) | {"manifest.json": described(world, change)}
    assert list(refused(store, tmp_path, files).codes) == codes


@pytest.mark.parametrize("at", [0, BLOCKS * 4096 - 1, BLOCKS * 4096 + 17, (BLOCKS + 1) * 4096 + 5, (BLOCKS + 2) * 4096])
def test_a_flipped_byte_anywhere_in_the_root_file_system(world: World, store: Store, tmp_path: Path, at: int) -> None:
    """The manifest is right about the file, and the file is wrong in itself."""
    spoilt = bytearray(world.rootfs)
    spoilt[at] ^= 1
    world.rootfs = bytes(spoilt)

    def agree(value: Json) -> None:
        value["artifacts"]["rootfs"]["sha256"] = Digest.of(world.rootfs).hex

    files = files_of(world) | {"manifest.json": described(world, agree)}
    assert set(refused(store, tmp_path, files).codes) == {Code.VERITY_MISMATCH}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_missing_file_leaves_nothing(world: World, store: Store, tmp_path: Path, name: str) -> None:
    files = {other: data for other, data in files_of(world).items() if other != name}
    refusal = refused(store, tmp_path, files)
    assert refusal.codes == (Code.OUTPUT_MALFORMED,)
    assert name in refusal.reasons[0].why


def test_an_interruption_leaves_nothing(world: World, store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), OutputImport(store) as imported:
        imported.write(ustar(files_of(world))[:100_000])
        raise KeyboardInterrupt
    assert kept(tmp_path) == []
    with nothing_left_open(), OutputImport(store) as imported:
        imported.write(ustar(files_of(world))[:100_000])


@pytest.mark.parametrize("data", [b"{}", b"\xff", b"[" * 10_000], ids=["empty", "no text", "deep"])
def test_a_manifest_that_is_none(world: World, store: Store, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(RefusedError) as refusal, OutputImport(store) as imported:
        imported.write(ustar(files_of(world) | {"manifest.json": data}))
        imported.image()
    assert set(refusal.value.codes) == {Code.MANIFEST_MALFORMED}
    assert kept(tmp_path) == []


@pytest.mark.parametrize("blocks", [1, -1], ids=["a block that the tree does not cover", "a block less"])
def test_another_size_than_the_trees(world: World, store: Store, tmp_path: Path, blocks: int) -> None:
    """The manifest is right about the file's size and digest."""
    size = len(world.rootfs) + blocks * Verity.BLOCK
    world.rootfs = world.rootfs[:size].ljust(size, b"\0")

    def agree(value: Json) -> None:
        value["artifacts"]["rootfs"] |= {"sha256": Digest.of(world.rootfs).hex, "size": size}

    with pytest.raises(RefusedError) as refusal, OutputImport(store) as imported:
        imported.write(ustar(files_of(world) | {"manifest.json": described(world, agree)}))
        imported.image()
    assert set(refusal.value.codes) == {Code.VERITY_MISMATCH}
    assert kept(tmp_path) == []


def test_a_limit_for_each_file() -> None:
    assert set(LIMITS) == set(OUTPUTS)
