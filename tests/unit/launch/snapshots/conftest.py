"""What tests of snapshots begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.system.private_dirs import Directory
from tests.unit.launch.snapshots.kept import Kept


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Kept]:
    """A user's snapshots, none yet."""
    with Directory.create(str(tmp_path / "snapshots")) as directory:
        yield Kept(directory)
