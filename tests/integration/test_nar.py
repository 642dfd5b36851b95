"""Our archives against those of the real Nix: the same bytes, the same hashes."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from mvmnix.formats.nar import File, nar_hash, nar_of_file, nar_of_tree
from mvmnix.system.fs_tree import tree_of_directory

pytestmark = pytest.mark.integration


def dumped(path: Path) -> bytes:
    return subprocess.run(["nix-store", "--dump", str(path)], check=True, capture_output=True).stdout


def nix_hash(path: Path) -> str:
    argv = ["nix", "--extra-experimental-features", "nix-command", "hash", "path", str(path)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def grow(directory: Path, chance: random.Random, depth: int) -> None:
    for _ in range(chance.randint(0, 6)):
        name = bytes(chance.choice(b"aAbB.-_ \xc3\xa9\xff\n") for _ in range(chance.randint(1, 9)))
        path = Path(os.fsdecode(name))
        if name in {b".", b".."} or os.path.lexists(directory / path):
            continue
        match chance.randint(0, 4 if depth else 2):
            case 0 | 1:
                (directory / path).write_bytes(chance.randbytes(chance.choice([0, 1, 7, 8, 9, 1000, 70000])))
                (directory / path).chmod(chance.choice([0o644, 0o755, 0o744, 0o600, 0o655]))
            case 2:
                (directory / path).symlink_to(chance.choice(["..", "/proc/nowhere", "a b", "x" * 200]))
            case _:
                (directory / path).mkdir()
                grow(directory / path, chance, depth - 1)


@pytest.mark.parametrize("seed", range(8))
def test_directories(tmp_path: Path, seed: int) -> None:
    top = tmp_path / "top"
    top.mkdir()
    grow(top, random.Random(seed), 4)
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ours = b"".join(nar_of_tree(tree_of_directory(fd)))
    finally:
        os.close(fd)
    assert ours == dumped(top)
    assert nar_hash([ours])[0].sri == nix_hash(top)


@pytest.mark.parametrize("executable", [False, True])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096])
def test_single_files(tmp_path: Path, size: int, executable: bool) -> None:
    file = tmp_path / "busybox"
    file.write_bytes(bytes(index % 251 for index in range(size)))
    file.chmod(0o755 if executable else 0o644)
    ours = b"".join(nar_of_file(size, [file.read_bytes()], executable=executable))
    assert ours == dumped(file)
    assert nar_hash(nar_of_tree(File.of(file.read_bytes(), executable=executable)))[0].sri == nix_hash(file)
