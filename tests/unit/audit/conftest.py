"""Logs in directories of a test's: an empty one, and one of three segments."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.system.private_dirs import Directory
from tests.unit.audit.world import SIZE, World, new_signer, new_world, record


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A log in a fresh directory, with a key of its own."""
    with new_world(tmp_path / "audit") as made:
        yield made


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, bytes]]:
    """A log of `SIZE` records, made once, and its checkpoints by size."""
    path = tmp_path_factory.mktemp("template") / "audit"
    with Directory.create(str(path)) as directory:
        log = AuditLog(directory, new_signer())
        notes = {size: log.append(record(size - 1)).checkpoint.note for size in range(1, SIZE + 1)}
    return path, notes


@pytest.fixture
def long(world: World, template: tuple[Path, dict[int, bytes]]) -> World:
    """A copy of it."""
    shutil.copytree(template[0], world.path, dirs_exist_ok=True)
    return world


@pytest.fixture
def notes(template: tuple[Path, dict[int, bytes]]) -> dict[int, bytes]:
    """Its checkpoints by size."""
    return template[1]
