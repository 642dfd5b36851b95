"""The hash of a taken tree is the one that Nix computes of the same checkout."""

import os
import subprocess
from pathlib import Path

import pytest

from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.model import FlakeRef
from tests.fakes import Repository

pytestmark = pytest.mark.integration


def nix(*arguments: str) -> str:
    argv = ["nix", "--extra-experimental-features", "nix-command flakes", *arguments]
    return subprocess.run(argv, check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    names = {os.fsdecode(name): "x" for name in (b"\xff", b"a b", b"-", b"a/b/c", b"a.b", b"a0", b"B", "ü".encode())}
    made = Repository.make(tmp_path / "repo", names)
    made.write("run", "#!/bin/sh\n").chmod(0o755)
    (made.path / "link").symlink_to("nowhere")
    made.commit()
    return made


def test_a_commit_hashes_as_its_checkout(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    repository.git("--work-tree", str(tmp_path / "checkout"), "checkout", "-f", "HEAD", "--", ".")
    repository.git("reset", "-q", "--hard")
    assert take_flake(FlakeRef(str(repository.path))).nar.sri == nix("hash", "path", str(tmp_path / "checkout"))


def test_a_copy_hashes_as_it_lies_there(repository: Repository) -> None:
    repository.write("untracked", "x")
    assert take_flake(FlakeRef(str(repository.path), copy=True)).nar.sri == nix("hash", "path", str(repository.path))


def test_the_store_path_is_the_one_that_nix_gives_it(repository: Repository, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"), "--option", "build-users-group", "")
    added = nix("store", "add", *store, "--name", "source", str(repository.path))
    assert str(take_flake(FlakeRef(str(repository.path), copy=True)).store_path) == added
