"""Each tutorial and each page of how-to does what it says when it is typed, in a clone, as a plain user."""

from pathlib import Path

import pytest

from tests.builds.conftest import copy_cache
from tests.conftest import World
from tests.pages import run_page
from tests.repository import ROOT

pytestmark = pytest.mark.vm

PAGES = sorted(path for folder in ("tutorial", "how-to") for path in (ROOT / "docs" / folder).glob("*.md"))
#: Pages that take more than a clone, and the test that types each.
ELSEWHERE = {"use-oci-images": "tests/builds/test_oci.py"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in ELSEWHERE], ids=lambda path: path.stem)
def test_a_page_does_what_it_says(python_user: World, checkout: Path, tmp_path: Path, page: Path) -> None:
    copy_cache(python_user, tmp_path / "cache")
    environment = {**python_user.home.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run_page(page.read_text(), checkout, environment)


def test_the_others_are_typed_elsewhere() -> None:
    assert all(f"how-to/{name}.md" in (ROOT / test).read_text() for name, test in ELSEWHERE.items())
