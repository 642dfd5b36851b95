"""Each tutorial and each page of how-to does what it says when it is typed, in a clone, as a plain user.

Typing all of them takes a quarter of an hour: the tutorials each time, and a third of the others, all in three days.
"""

from pathlib import Path

import pytest

from tests.builds.conftest import copy_cache
from tests.conftest import World
from tests.pages import run_page
from tests.repository import ROOT
from tests.sample import sample

pytestmark = pytest.mark.vm

TUTORIALS, HOW_TO = (sorted((ROOT / "docs" / folder).glob("*.md")) for folder in ("tutorial", "how-to"))
#: Pages that take more than a clone, and the test that types each.
ELSEWHERE = {"use-oci-images": "tests/builds/test_oci.py"}
TYPED = [page for page in HOW_TO if page.stem not in ELSEWHERE]


@pytest.mark.parametrize("page", [*TUTORIALS, *sample(TYPED, 8)], ids=lambda path: path.stem)
def test_a_page_does_what_it_says(python_user: World, checkout: Path, tmp_path: Path, page: Path) -> None:
    copy_cache(python_user, tmp_path / "cache")
    environment = {**python_user.home.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run_page(page.read_text(), checkout, environment)


def test_the_others_are_typed_elsewhere() -> None:
    assert all(f"how-to/{name}.md" in (ROOT / test).read_text() for name, test in ELSEWHERE.items())
