"""A log in a fresh directory, with a key of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.audit.log import AuditLog
from mvmnix.state import Directory
from tests.unit.audit.world import World, new_signer


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "audit"
    signer = new_signer()
    with Directory.create(str(path)) as directory:
        yield World(path, directory, signer, AuditLog(directory, signer))
