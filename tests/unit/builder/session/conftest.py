"""The site of a build, for the tests of evaluation and of builds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.builder.session.site import Site
from tests.unit.provenance.world import new_world


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "world").mkdir()
    yield Site(tmp_path, new_world(tmp_path / "world"))
