"""The hash tree against cryptsetup's own, and every way in which a file can deviate from it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.formats import verity
from mvmnix.model import Verity
from mvmnix.system import process

SALT = bytes(range(32))
UUID = "12345678-1234-4234-8234-123456789abc"
BLOCK = verity.BLOCK


def build(path: Path, blocks: int) -> Verity:
    data = b"".join(Digest.of(number.to_bytes(4)).raw * (BLOCK // 32) for number in range(blocks))
    path.write_bytes(data)
    with opened(path) as fd:
        tree = verity.hash_tree(fd, data_blocks=blocks, salt=SALT)
    described = Verity(tree.root, SALT, UUID, blocks, blocks * BLOCK)
    path.write_bytes(data + verity.superblock(described) + tree.blocks)
    return described


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.integration
@pytest.mark.parametrize("blocks", [1, 2, 127, 128, 129, 300, 128 * 128, 128 * 128 + 1])
@pytest.mark.parametrize("salt", [SALT, b"", b"s" * 256])
def test_same_bytes_as_veritysetup(tmp_path: Path, blocks: int, salt: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(blocks * BLOCK))
    with opened(path) as fd:
        tree = verity.hash_tree(fd, data_blocks=blocks, salt=salt)
    described = Verity(tree.root, salt, UUID, blocks, blocks * BLOCK)
    ours = path.read_bytes() + verity.superblock(described) + tree.blocks
    options = (f"--hash-offset={blocks * BLOCK}", f"--salt={salt.hex() or '-'}", f"--uuid={UUID}")
    done = process.run(("/usr/sbin/veritysetup", "format", *options, str(path), str(path)))
    assert tree.root.hex.encode() in done.stdout
    assert path.read_bytes() == ours
    with opened(path) as fd:
        assert verity.size_problem(fd, described) is None
        assert verity.superblock_problem(fd, described) is None
        assert verity.root_problem(fd, described) is None
        assert verity.find_corruption(fd, described) == ()


@pytest.mark.parametrize("blocks", [1, 5, 129])
def test_intact(tmp_path: Path, blocks: int) -> None:
    described = build(tmp_path / "image", blocks)
    with opened(tmp_path / "image") as fd:
        assert os.fstat(fd).st_size == verity.image_size(described)
        assert verity.hash_tree(fd, data_blocks=blocks, salt=SALT).root == described.root
        assert verity.find_corruption(fd, described) == ()


@pytest.mark.parametrize("number", [0, 1, 127, 128, 299])
def test_a_flipped_data_block_is_named(tmp_path: Path, number: int) -> None:
    path = tmp_path / "image"
    described = build(path, 300)
    flip(path, number * BLOCK + 77)
    with opened(path) as fd:
        assert verity.find_corruption(fd, described) == (number,)
        assert verity.root_problem(fd, described) is None
        assert verity.hash_tree(fd, data_blocks=300, salt=SALT).root != described.root


def test_a_flipped_hash_block_loses_what_is_below(tmp_path: Path) -> None:
    path = tmp_path / "image"
    described = build(path, 300)
    flip(path, described.hash_offset + 3 * BLOCK)  # superblock, top, then the second block of the lowest level
    with opened(path) as fd:
        assert verity.root_problem(fd, described) is None
        assert verity.find_corruption(fd, described) == tuple(range(128, 256))


def test_a_flipped_top_block(tmp_path: Path) -> None:
    path = tmp_path / "image"
    described = build(path, 300)
    flip(path, described.hash_offset + 2 * BLOCK - 1)  # in the padding, which is hashed too
    with opened(path) as fd:
        assert "top hash block" in (verity.root_problem(fd, described) or "")
        assert verity.find_corruption(fd, described) == tuple(range(300))


@pytest.mark.parametrize("offset", [0, 8, 16, 32, 64, 72, 80, 88, 120, 511, 512, 4095])
def test_a_flipped_superblock_byte_is_named(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "image"
    described = build(path, 3)
    flip(path, described.hash_offset + offset)
    with opened(path) as fd:
        assert (verity.superblock_problem(fd, described) or "").endswith(f"in its byte {offset}")


def test_sizes_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "image"
    described = build(path, 130)
    whole = path.read_bytes()
    for data in (whole + b"\0", whole[:-1]):
        path.write_bytes(data)
        with opened(path) as fd:
            assert verity.size_problem(fd, described) is not None


def test_a_truncated_file_is_corruption_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "image"
    described = build(path, 130)
    whole = path.read_bytes()
    path.write_bytes(whole[: described.hash_offset + 100])
    with opened(path) as fd:
        assert verity.superblock_problem(fd, described) is not None
        assert verity.root_problem(fd, described) is not None
        assert verity.find_corruption(fd, described) == tuple(range(130))
        with pytest.raises(ValueError, match="ends within"):
            verity.hash_tree(fd, data_blocks=135, salt=SALT)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("cut", [1, 3000, BLOCK])
def test_a_top_block_that_is_cut_off_in_its_zeros(tmp_path: Path, blocks: int, cut: int) -> None:
    """What is missing is not read as zeros: the kernel would refuse to read it."""
    path = tmp_path / "image"
    path.write_bytes(bytes(blocks * BLOCK))
    with opened(path) as fd:
        tree = verity.hash_tree(fd, data_blocks=blocks, salt=SALT)
    described = Verity(tree.root, SALT, UUID, blocks, blocks * BLOCK)
    whole = bytes(blocks * BLOCK) + (verity.superblock(described) + tree.blocks if blocks > 1 else b"")
    path.write_bytes(whole)
    with opened(path) as fd:
        assert verity.root_problem(fd, described) is None
        assert verity.find_corruption(fd, described) == ()
    path.write_bytes(whole[:-cut])
    with opened(path) as fd:
        assert "top hash block" in (verity.root_problem(fd, described) or "")
        assert verity.find_corruption(fd, described) == tuple(range(blocks))


def test_a_digest_of_a_block_that_is_cut_off(tmp_path: Path) -> None:
    """Not even where it is the root: who made the image can sign the digest of any bytes."""
    path = tmp_path / "image"
    described = build(path, 2)
    whole = path.read_bytes()
    short = whole[: 3 * BLOCK + 64]  # data, superblock, two digests
    path.write_bytes(short)
    hostile = replace(described, root=Digest.of(SALT + short[-64:]))
    with opened(path) as fd:
        assert verity.root_problem(fd, hostile) == "the file ends within its top hash block"
        assert verity.find_corruption(fd, hostile) == (0, 1)


def test_another_salt_is_another_root(tmp_path: Path) -> None:
    described = build(tmp_path / "image", 3)
    with opened(tmp_path / "image") as fd:
        assert verity.root_problem(fd, replace(described, salt=b"other")) is not None
